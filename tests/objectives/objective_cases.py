"""Likelihoods, samples and reference densities that the tests of objectives share."""

import torch
from torch.distributions import (
    Bernoulli,
    Independent,
    Multinomial,
    NegativeBinomial,
    Normal,
    OneHotCategorical,
    Poisson,
)

from skae.objectives import LIKELIHOODS

NORMAL = "gaussian", "isotropic_gaussian"


def draws(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def start_noise(built, noise):
    """Start at this noise of columns that vary by one and were not scaled."""
    built.start_at(noise, torch.ones_like(noise), torch.ones_like(noise))
    return built


def likelihood(name, n_features):
    built = LIKELIHOODS[name](n_features).double()
    if name in NORMAL:
        start_noise(built, torch.linspace(0.5, 2, n_features, dtype=torch.float64))
    if name == "negative_binomial":
        start_noise(built, torch.linspace(0.1, 2, n_features, dtype=torch.float64))
    built.fit_sums(lambda: torch.tensor([7.0]))
    return built


def output(built, seed, n, n_features):
    return draws(seed, n, built.n_parameters * n_features)


def target(name, seed, *shape):
    x = draws(seed, *shape)
    if name in NORMAL:
        return x
    if name == "categorical":
        return torch.nn.functional.one_hot(x.argmax(-1), shape[-1]).double()
    return (x > 0).double() if name == "bernoulli" else (3 * x.abs()).floor()


def reference(built, name, eta):
    if name == "multinomial":
        return Multinomial(7, logits=eta, validate_args=False)
    if name == "categorical":
        return OneHotCategorical(logits=eta)

    def normal():
        return Normal(built.mean(eta), built.variance(eta).sqrt())

    base = {
        **dict.fromkeys(NORMAL, normal),
        "bernoulli": lambda: Bernoulli(logits=eta),
        "poisson": lambda: Poisson(eta.exp()),
        "negative_binomial": lambda: NegativeBinomial(built.log_size.exp(), logits=eta - built.log_size),
    }
    return Independent(base[name](), 1)
