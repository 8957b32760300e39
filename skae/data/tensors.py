"""Samples in a tensor on a device, such as a GPU, of which none is copied to the host."""

from functools import cached_property

import numpy as np
import torch
from sklearn.utils import assert_all_finite

from skae._torch import to_array
from skae.data.rows import ArrayRows
from skae.data.sparse import Centred
from skae.data.statistics import Moments, column_means, column_moments, n_unweighted, observed_columns

# Values of a block of samples in float64.
_BLOCK = 2**22


def checked_tensor(X, check, *, allow_nan):
    """Return a tensor in float32 or float64 after checks.

    ``check`` raises an error for an array that has the shape of X and, if X is complex, its kind.
    """
    check(np.broadcast_to(np.complex128(0) if X.is_complex() else np.float64(0), X.shape))
    X = X.detach().to(torch.float32 if X.dtype in (torch.float32, torch.bfloat16) else torch.float64).contiguous()
    worst = np.inf if X.isinf().any() else np.nan if X.isnan().any() else 0.0
    assert_all_finite(np.array([worst]), allow_nan=allow_nan, input_name="X")
    return X


class TensorRows(ArrayRows):
    """Samples in a tensor on a device.

    Parameters
    ----------
    tensor : Tensor of shape (n_samples, n_features)
        In float32 or float64.
    weights : ndarray of shape (n_samples,) or None, default=None
    """

    def __init__(self, tensor, weights=None):
        self.source, self.weights, self.device = tensor.contiguous(), weights, tensor.device
        self.dtype = np.dtype(str(tensor.dtype).removeprefix("torch."))

    @cached_property
    def has_missing(self):
        return bool(self.source.isnan().any())

    def map(self, function):
        return TensorRows(function(self.source), self.weights)

    def parts(self):
        """Return slices of samples whose copies in float64 fit in memory."""
        at_once = max(self.n_features, _BLOCK // self.n_features)
        return [slice(begin, begin + at_once) for begin in range(0, len(self), at_once)]

    def on_device(self, array):
        """Return an array of the host in float64, on the device of the samples."""
        return torch.as_tensor(array, dtype=torch.float64).to(self.device)

    def sums(self):
        return to_array(self.source.double().nansum(1))[self.resampled()]

    def dense(self, minimum, random_state):
        if not (empty := ~torch.from_numpy(observed_columns(self))).any():
            return self
        source = self.source.clone()
        source[0, empty.to(self.device)] = 0
        return TensorRows(source, self.weights)

    def drawn(self, normal, random_state):
        generator = torch.Generator().manual_seed(int(random_state.randint(2**31 - 1)))
        model = [*map(self.on_device, normal)]
        filled = [normal.draw_on_device(self.source[part], *model, generator) for part in self.parts()]
        is_missing = self.source.isnan()
        ends = (self.source.masked_fill(is_missing, end) for end in (torch.inf, -torch.inf))
        low, high = next(ends).amin(0), next(ends).amax(0)
        return self.map(lambda x: torch.where(is_missing, torch.cat(filled).to(x).clamp(low, high), x))

    def with_sample(self, sample):
        weights = None if self.weights is None else np.append(self.weights, self.weights.sum() / self.n_effective)
        return TensorRows(torch.cat([self.source, self.on_device(sample)[None].to(self.source)]), weights)

    def _with_columns(self, columns):
        return TensorRows(torch.cat([self.source, self.on_device(columns).to(self.source)], 1), self.weights)

    def fingerprint_parts(self):
        return (to_array(self.source),)

    # For the linear start.

    def unweighted(self):
        return self._centred(self.n_features)[0]

    def centred(self):
        X, means = self._centred(self.n_features)
        return X, means[0]

    def without_context_means(self, n_features):
        X, means = self._centred(n_features)
        return X, means if self.n_features > n_features else means[:0]

    def column_range(self):
        return to_array(torch.stack([self.source.amin(0), self.source.amax(0)]))

    def range_along(self, directions):
        codes = self.source @ self.on_device(directions).T.to(self.source)
        return to_array(torch.stack([codes.amin(0), codes.amax(0)]))

    def _centred(self, n_features):
        """Return the first columns minus their means, and these means (n_groups, n_features).

        There is a group for each further column, which holds 1 for its samples, or one group of all samples.
        """
        X, groups = self.source.tensor_split([n_features], 1)
        groups = groups.double() if groups.shape[1] else self.on_device(np.ones((len(self), 1)))
        n = len(self) if self.weights is None else n_unweighted(self.weights, n_features)
        shares = self.on_device(np.ones(n) if self.weights is None else self.weights * (n / self.weights.sum()))
        counted = shares[:, None] * groups
        totals, varying = counted.sum(0)[:, None], X.amax(0) > X.amin(0)
        means = sum(counted[part].T @ X[part].double() for part in self.parts()) / torch.where(totals > 0, totals, 1)
        triangle = X.new_zeros((0, n_features), dtype=torch.float64)
        for part in self.parts():
            rest = shares[part].sqrt()[:, None] * (X[part].double() - groups[part] @ means) * varying
            triangle = torch.linalg.qr(torch.cat([triangle, rest]), mode="r").R
        return CentredTensor(triangle, n, to_array(varying), self.on_host(n_features)), to_array(means)

    def on_host(self, n_features):
        """Return a function that copies centred samples to the host, for what needs the samples of a small table."""
        return lambda: ArrayRows(to_array(self.source), self.weights).without_context_means(n_features)[0]


class CentredTensor(Centred):
    """Centred samples on a device, by a small matrix whose columns have the same products.

    Parameters
    ----------
    triangle : Tensor of shape (n, n_features)
        At most n_features samples, in float64.
    n_samples : int
    varying : ndarray of bool of shape (n_features,)
    on_host : callable () -> ndarray, default=None
        Copies the samples themselves to the host.
    """

    def __init__(self, triangle, n_samples, varying, on_host=None):
        self.triangle, self.varying, self.on_host = triangle, varying, on_host
        self.shape = n_samples, triangle.shape[1]

    def __getitem__(self, index):
        _, columns = index
        mask = torch.from_numpy(columns).to(self.triangle.device)
        return CentredTensor(self.triangle[:, mask], len(self), self.varying[columns])

    def __mul__(self, factors):
        return CentredTensor(self.triangle * self._on_device(factors), len(self), self.varying)

    def _on_device(self, array):
        return torch.as_tensor(array, dtype=torch.float64).to(self.triangle.device)

    @property
    def held(self):
        return tuple(self.triangle.shape)

    def times(self, v):
        return to_array(self.triangle @ self._on_device(v.ravel()))

    def transposed_times(self, u):
        return to_array(self.triangle.T @ self._on_device(u.ravel()))

    def squares(self):
        return to_array(self.triangle.square().sum(0))

    def quadratic(self, direction):
        return float((self.triangle @ self._on_device(direction)).square().sum())

    def gram(self):
        return to_array(self.triangle.T @ self.triangle)

    def _exact(self, n_components):
        _, values, directions = torch.linalg.svd(self.triangle, full_matrices=False)
        return to_array(values[:n_components]) ** 2, to_array(directions[:n_components])


@observed_columns.register
def _(rows: TensorRows):
    return to_array((~rows.source.isnan()).any(0))


@column_means.register
def _(rows: TensorRows):
    return column_moments(rows).mean


@column_moments.register
def _(rows: TensorRows, function=None):
    seen = ~rows.source.isnan()
    first = rows.source.gather(0, seen.to(torch.uint8).argmax(0, keepdim=True)).nan_to_num(nan=0.0)
    weights = rows.on_device(np.ones(len(rows)) if rows.weights is None else rows.weights)[:, None]
    observed = sum((weights[part] * seen[part]).sum(0) for part in rows.parts())
    observed, scaled = torch.where(observed > 0, observed, 1), (lambda x: x) if function is None else function
    first = scaled(first).double()

    def shifted():
        return ((weights[part], scaled(rows.source[part]).double() - first) for part in rows.parts())

    shift = sum((weight * x).nansum(0) for weight, x in shifted()) / observed
    peaks = torch.stack([x.abs().nan_to_num(nan=0.0).amax(0) for _, x in shifted()]).amax(0)
    peak = peaks.amax().clamp_min(torch.finfo(peaks.dtype).tiny)
    squares = sum((weight * ((x - shift) / peak).square()).nansum(0) for weight, x in shifted())
    deviation = torch.where(peaks == 0, 0, peak * (squares / observed).sqrt())
    return Moments(*map(to_array, (first[0] + shift, deviation, peaks == 0)))
