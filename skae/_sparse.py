"""Sparse rows that are made dense a few at a time: an array as far as those who ask for blocks of rows can tell."""

from __future__ import annotations

import numpy as np


class SparseRows:
    """Rows of a CSR matrix.

    Parameters
    ----------
    matrix : CSR matrix or array of shape (n_samples, n_features)
    function : callable, default=None
        What rows go through once they are dense: (n, n_features) -> (n, n_features).
    """

    def __init__(self, matrix, function=None):
        self.matrix = matrix
        self.function = function
        self.shape, self.dtype = matrix.shape, matrix.dtype
        self.size = matrix.shape[0] * matrix.shape[1]

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, rows):
        """These rows as an array; of an int that row."""
        if isinstance(rows, int | np.integer):
            return self[[rows]][0]
        dense = self.matrix[rows].toarray()
        return dense if self.function is None else self.function(dense)

    def through(self, function):
        """The same rows, which go through a function as well."""
        return SparseRows(self.matrix, function)

    def sums(self):
        """Of each row."""
        return np.asarray(self.matrix.sum(axis=1), dtype=np.float64).ravel()
