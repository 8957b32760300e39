"""Context of a conditional model: the class of each sample, or nothing."""

import numpy as np
from scipy.special import softmax

from skae.data.checks import check_classes, check_labels


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

    def encode(self, y, n_samples):
        """Return the context of training samples, (n_samples, width)."""
        return np.zeros((n_samples, 0))

    def groups(self, y, n_samples):
        """Return pairs of an index of samples and their context's value, or None to marginalise over it."""
        return

    def marginalise(self, log_density):
        """Return the log-density of samples, marginalised over the context; ``log_density`` takes a value."""
        return log_density(self.values[0])

    def expected(self, function, log_density=None):
        """Average a function of the value over the posterior of each sample's context, or over the prior."""
        return function(self.values[0])

    def check_exportable(self, name):
        """Raise ValueError if a graph whose only input is samples or codes cannot represent the model."""

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
    prior : ndarray of shape (n_classes,)
        Shares of the classes in the training samples.
    """

    def __init__(self, classes, prior):
        self.classes, self.prior, self.width = classes, prior, len(classes)
        self.values, self.log_weights = np.eye(self.width), np.log(prior)
        self.attributes = {"classes_": classes, "class_prior_": prior}

    @classmethod
    def learn(cls, y, n_samples, weights=None):
        """Fit the context to labels of training samples with these weights (n_samples,); None for equal ones."""
        classes, labels = check_classes(y, n_samples)
        totals = np.bincount(labels, weights, minlength=len(classes))
        return cls(classes, totals / totals.sum())

    def encode(self, y, n_samples):
        return self.values[check_labels(y, self.classes, n_samples)]

    def groups(self, y, n_samples):
        if y is None:
            return None
        labels = check_labels(y, self.classes, n_samples)
        return [(labels == k, value) for k, value in enumerate(self.values) if (labels == k).any()]

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
        return sum(weight.astype(part.dtype) * part for weight, part in zip(weights, parts, strict=True))

    def check_exportable(self, name):
        raise ValueError(
            f"This {name} is conditional on classes, which a graph of rows or codes alone cannot take. Fit one with "
            "conditional=False to export it."
        )

    def draw(self, y, n_samples, random_state):
        if y is not None:
            return self.encode(y, n_samples)
        return self.values[random_state.choice(self.width, n_samples, p=self.prior)]
