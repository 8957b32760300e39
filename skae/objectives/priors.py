"""Priors of codes: the standard normal, used in training, and alternatives for scores and samples."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from skae.linear.mixture import draw_codes, fit_mixture

# Codes are clipped to this size, since a Gaussian mixture cannot score infinite values.
_FAR = 1e100


def _finite(z: Tensor) -> Tensor:
    """Return codes in float64, clipped to values for which densities can be computed."""
    return z.double().nan_to_num(_FAR, _FAR, -_FAR).clamp(-_FAR, _FAR)


class Prior:
    """Density of codes, used in scores and new samples after training.

    Subclasses define ``log_prob`` and ``sample``. Those that learn from codes also define ``fit``, and
    ``is_learned = True``.

    Parameters
    ----------
    density : object, default=None
        The fitted state of the prior, which is stored in files. It is the attribute ``prior_`` of an estimator.

    Attributes
    ----------
    is_learned : bool
        Whether `fit` uses codes. Until such a prior is fitted, the standard normal is used.
    """

    is_learned = False

    def __init__(self, density: Any = None) -> None:
        self.density = density

    @classmethod
    def restore(cls, density: Any) -> Prior:
        """Return the prior with the ``density`` of an earlier `fit`, which is None if it was not fitted.

        The density may come from a file. A subclass may check it here, and raise ValueError.
        """
        return StandardNormal() if cls.is_learned and density is None else cls(density)

    def fit(self, codes: Tensor, seed: int) -> Prior:
        """Fit the prior to codes.

        Parameters
        ----------
        codes : Tensor of shape (n, n_components)
            A draw from the posterior of each of at most 5,000 training samples, in float64.
        seed : int
            Seed of random numbers.

        Returns
        -------
        Prior
            The fitted prior, or the standard normal if that fits better.
        """
        return self

    def log_prob(self, z: Tensor) -> Tensor:
        """Return the log-density of codes in float64: (..., n_components) -> (...)."""
        raise NotImplementedError

    def gain(self, z: Tensor) -> Tensor:
        """Return the log-density of codes minus that under the standard normal: (..., n_components) -> (...)."""
        return self.log_prob(z) - StandardNormal().log_prob(z)

    def sample(self, n_samples: int, n_components: int, generator: torch.Generator, random_state: Any) -> Tensor:
        """Draw codes.

        Parameters
        ----------
        n_samples, n_components : int
            Shape of the codes.
        generator : torch.Generator
            Source of draws in torch.
        random_state : numpy.random.RandomState
            Source of draws in scikit-learn.

        Returns
        -------
        Tensor of shape (n_samples, n_components)
            In float64.
        """
        raise NotImplementedError


class StandardNormal(Prior):
    """The standard normal distribution."""

    def log_prob(self, z: Tensor) -> Tensor:
        return -0.5 * (_finite(z).square() + math.log(2 * math.pi)).sum(-1)

    def gain(self, z: Tensor) -> Tensor:
        return z.new_zeros(z.shape[:-1])

    def sample(self, n_samples: int, n_components: int, generator: torch.Generator, random_state: Any) -> Tensor:
        return torch.randn((n_samples, n_components), generator=generator, dtype=torch.float64)


class MixturePrior(Prior):
    """Gaussian mixture fitted to codes (Ghosh et al. 2020, arXiv:1903.12436).

    Parameters
    ----------
    density : sklearn.mixture.GaussianMixture
    """

    is_learned = True

    def fit(self, codes: Tensor, seed: int) -> Prior:
        def standard_normal(held_out: Any) -> float:
            return StandardNormal().log_prob(torch.from_numpy(held_out)).mean().item()

        density = fit_mixture(codes.numpy(force=True), seed, standard_normal)
        return StandardNormal() if density is None else MixturePrior(density)

    def log_prob(self, z: Tensor) -> Tensor:
        log_prob = self.density.score_samples(_finite(z).reshape(-1, z.shape[-1]).numpy(force=True))
        return torch.from_numpy(log_prob).reshape(z.shape[:-1]).to(z.device)

    def sample(self, n_samples: int, n_components: int, generator: torch.Generator, random_state: Any) -> Tensor:
        return torch.from_numpy(draw_codes(self.density, n_samples, random_state))


PRIORS: dict[str, type[Prior]] = {"normal": StandardNormal, "mixture": MixturePrior}


def register_prior(name: str, prior: type[Prior]) -> None:
    """Make a prior available to estimators as ``prior=name``.

    Parameters
    ----------
    name : str
        Name of the prior. A prior that has the name already is replaced.
    prior : type of Prior
        The class. Its objects are fitted after training if they are learned.

    Raises
    ------
    TypeError
        If the prior defines ``fit``, but not ``is_learned = True``.

    Examples
    --------
    >>> import torch
    >>> from skae.objectives import PRIORS, Prior, register_prior
    >>> class Uniform(Prior):
    ...     def log_prob(self, z):
    ...         return torch.where((z.double().abs() < 3).all(-1), -z.shape[-1] * torch.tensor(6.0).log(), -torch.inf)
    ...
    ...     def sample(self, n_samples, n_components, generator, random_state):
    ...         return 6 * torch.rand((n_samples, n_components), generator=generator, dtype=torch.float64) - 3
    >>> register_prior("uniform", Uniform)
    >>> PRIORS.pop("uniform")().log_prob(torch.zeros(1, 2))
    tensor([-3.5835])
    """
    if prior.fit is not Prior.fit and not prior.is_learned:
        raise TypeError(f"{prior.__name__} defines fit, which is used only with is_learned = True. Set this attribute.")
    PRIORS[name] = prior
