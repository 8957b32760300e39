"""Likelihoods by name."""

from collections.abc import Iterable, Sequence

from skae.objectives.likelihoods import categorical, counts, gaussian
from skae.objectives.likelihoods.base import Likelihood
from skae.objectives.likelihoods.mixed import Mixed

LIKELIHOODS: dict[str, type[Likelihood]] = {
    "gaussian": gaussian.Gaussian,
    "isotropic_gaussian": gaussian.IsotropicGaussian,
    "bernoulli": categorical.Bernoulli,
    "poisson": counts.Poisson,
    "negative_binomial": counts.NegativeBinomial,
    "multinomial": counts.Multinomial,
    "categorical": categorical.Categorical,
}


def register_likelihood(name: str, likelihood: type[Likelihood]) -> None:
    """Make a likelihood available to estimators as ``likelihood=name``.

    Parameters
    ----------
    name : str
        Name of the likelihood. A likelihood that has the name already is replaced.
    likelihood : type of Likelihood
        The class, of which each fit makes an object.

    Examples
    --------
    >>> import torch
    >>> from skae.objectives import LIKELIHOODS, Likelihood, register_likelihood
    >>> class Exponential(Likelihood):
    ...     link, support = "log", "non_negative"
    ...
    ...     def log_prob(self, eta, x):
    ...         return -eta - x * (-eta).exp()
    ...
    ...     def mean(self, eta):
    ...         return eta.exp()
    ...
    ...     def draw(self, eta, generator):
    ...         return eta.exp() * torch.empty_like(eta).exponential_(generator=generator)
    >>> register_likelihood("exponential", Exponential)
    >>> LIKELIHOODS.pop("exponential")(3).n_outputs
    3
    """
    LIKELIHOODS[name] = likelihood


def mixed_likelihood(parts: Iterable[tuple[str, Sequence[int]]]) -> Mixed:
    """Return the likelihood of columns of different kinds.

    Parameters
    ----------
    parts : iterable of (str, sequence of int)
        From left to right, the name of a likelihood and the number of columns of each of its variables.
    """
    return Mixed([LIKELIHOODS[name].of_widths(widths) for name, widths in parts])
