"""Context of a conditional model: the class of each sample, or nothing."""

from functools import cached_property

import numpy as np
from scipy.special import softmax

from skae._torch import like_part
from skae.data.checks import check_classes, check_labels
from skae.data.columns import GraphColumn


class NoContext:
    """The context of an unconditional model: a single value without columns.

    Attributes
    ----------
    values : ndarray of shape (n_values, width)
        Possible values of the context.
    log_weights : ndarray of shape (n_values,)
        Log prior probabilities of the values.
    width : int
        Number of columns of the context.
    attributes : dict
        Fitted attributes of the estimator, by name.
    """

    values = np.zeros((1, 0))
    log_weights = np.zeros(1)
    width, attributes = 0, {}

    @classmethod
    def learn(cls, y, n_samples, weights=None, classes=None):
        """Fit the context to labels of training samples.

        Parameters
        ----------
        y : array-like of shape (n_samples,)
        n_samples : int
        weights : ndarray of shape (n_samples,), default=None
            Weights of the samples; None for equal ones.
        classes : array-like of shape (n_classes,), default=None
            All classes; None for those of y.
        """
        return cls()

    def updated(self, y, n_samples, weights=None):
        """Return the context after further training samples."""
        return self

    def encode(self, y, n_samples):
        """Return the context of training samples, (n_samples, width)."""
        return np.zeros((n_samples, 0))

    def groups(self, y, n_samples):
        """Return pairs of an index of samples and their context's value, or None to marginalise over it."""

    def marginalise(self, log_density):
        """Return the log-density of samples, marginalised over the context; ``log_density`` takes a value."""
        return log_density(self.values[0])

    def expected(self, function, log_density=None):
        """Average a function of the value over the posterior of each sample's context, or over the prior."""
        return function(self.values[0])

    def graph_columns(self):
        """Return the columns of an exported graph's input that hold the context, as a list."""
        return []

    def draw(self, y, n_samples, random_state):
        """Return the context of new samples, (n_samples, width): of labels y, or drawn from the prior."""
        if y is not None:
            raise ValueError(f"sample(y={y!r}) needs a model of each class. Fit with conditional=True and classes y.")
        return np.zeros((n_samples, 0))


class ClassContext(NoContext):
    """The class of a sample, one-hot encoded.

    Parameters
    ----------
    classes : ndarray of shape (n_classes,)
        Sorted.
    counts : ndarray of shape (n_classes,)
        Number of training samples of each class, or the sum of their weights.
    """

    def __init__(self, classes, counts):
        self.classes, self.counts, self.width = classes, counts, len(classes)
        self.prior = counts / counts.sum()
        with np.errstate(divide="ignore"):  # a class without samples so far
            self.log_weights = np.log(self.prior)
        self.attributes = {"classes_": classes, "class_count_": counts, "class_prior_": self.prior}

    @cached_property
    def values(self):
        return np.eye(self.width)  # large if classes are many

    @classmethod
    def learn(cls, y, n_samples, weights=None, classes=None):
        known, labels = check_classes(y, n_samples)
        if classes is not None:
            known, _ = check_classes(classes, len(classes))
            labels = check_labels(y, known, n_samples)
        return cls(known, np.bincount(labels, weights, minlength=len(known)).astype(np.float64))

    def updated(self, y, n_samples, weights=None):
        return ClassContext(self.classes, self.counts + self.learn(y, n_samples, weights, self.classes).counts)

    def encode(self, y, n_samples):
        return self.values[check_labels(y, self.classes, n_samples)]

    def groups(self, y, n_samples):
        if y is None:
            return None
        labels = check_labels(y, self.classes, n_samples)
        return [(np.flatnonzero(labels == k), self.values[k]) for k in np.unique(labels)]

    def _joint(self, log_density):
        """Return the joint log-density of samples and each class, (n_classes, n_samples)."""
        joint = np.stack([log_density(value) for value in self.values])
        return (joint + self.log_weights[:, None]).astype(joint.dtype)

    def marginalise(self, log_density):
        return np.logaddexp.reduce(self._joint(log_density), axis=0)

    def expected(self, function, log_density=None):
        if log_density is None:
            weights = self.prior
        else:
            joint = self._joint(log_density)
            joint[:, joint.max(axis=0) == -np.inf] = 0  # the sample is too far from all classes
            weights = softmax(joint, axis=0)[:, :, None]
        parts = map(function, self.values)
        return sum(like_part(weight, part) * part for weight, part in zip(weights, parts, strict=True))

    def graph_columns(self):
        return [GraphColumn.of_categories("class", self.classes.tolist())]

    def draw(self, y, n_samples, random_state):
        if y is not None:
            return self.encode(y, n_samples)
        return self.values[random_state.choice(self.width, n_samples, p=self.prior)]
