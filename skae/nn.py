"""The nets: a linear map, a nonlinear correction that starts at zero, and the autoencoder made of two of them.

Torch only: no numpy, no scikit-learn. Every module here draws its start from the generator it is given and leaves
the global one alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "gelu": nn.GELU,
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "silu": nn.SiLU,
    "elu": nn.ELU,
    "logistic": nn.Sigmoid,
    "identity": nn.Identity,
}


def linear(n_in: int, n_out: int, generator: torch.Generator) -> nn.Linear:
    """A linear layer, its weights and bias uniform within +-1 / sqrt(n_in): torch's own start, from ``generator``."""
    layer = nn.Linear(n_in, n_out, device="meta").to_empty(device="cpu")
    bound = n_in**-0.5
    with torch.no_grad():
        layer.weight.uniform_(-bound, bound, generator=generator)
        layer.bias.uniform_(-bound, bound, generator=generator)
    return layer


class MLP(nn.Sequential):
    """Linear layers with an activation between any two.

    Parameters
    ----------
    widths : sequence of int
        Input, hidden and output widths.
    activation : str
        A key of ``ACTIVATIONS``.
    generator : torch.Generator
        Source of the initial weights.

    Shape
    -----
    (n, widths[0]) -> (n, widths[-1])

    Examples
    --------
    >>> MLP([3, 8, 2], "relu", torch.Generator())
    MLP(
      (0): Linear(in_features=3, out_features=8, bias=True)
      (1): ReLU()
      (2): Linear(in_features=8, out_features=2, bias=True)
    )
    """

    def __init__(self, widths: Sequence[int], activation: str, generator: torch.Generator) -> None:
        layers: list[nn.Module] = []
        for n_in, n_out in pairwise(widths):
            layers += [linear(n_in, n_out, generator), ACTIVATIONS[activation]()]
        super().__init__(*layers[:-1])

    def silence(self) -> None:
        """Set the last layer, and so the output, to zero."""
        for parameter in self[-1].parameters():
            nn.init.zeros_(parameter)


class Gated(nn.Module):
    """gate * module(x): one gate an output, each starting at zero, so that any module starts as no correction.

    Shape
    -----
    (n, n_in) -> (n, n_out)
    """

    def __init__(self, module: nn.Module, n_out: int) -> None:
        super().__init__()
        self.module = module
        self.gate = nn.Parameter(torch.zeros(n_out))

    def silence(self) -> None:
        """Close the gates."""
        nn.init.zeros_(self.gate)

    def forward(self, x: Tensor) -> Tensor:
        return self.gate * self.module(x)


class Headed(nn.Sequential):
    """head(features(x)): a linear layer on top of a module of any width.

    Shape
    -----
    (n, n_in) -> (n, head.out_features)
    """

    def __init__(self, features: nn.Module, head: nn.Linear) -> None:
        super().__init__(features, head)

    def silence(self) -> None:
        """Set the head, and so the output, to zero."""
        for parameter in self[-1].parameters():
            nn.init.zeros_(parameter)


class CorrectedLinear(nn.Module):
    """A x + b + f(x): a linear path and, if one is given, a nonlinear correction.

    Parameters
    ----------
    path : nn.Linear
    correction : MLP, Gated, Headed or None

    Shape
    -----
    (n, n_in) -> (n, n_out)
    """

    def __init__(self, path: nn.Linear, correction: MLP | Gated | Headed | None = None) -> None:
        super().__init__()
        self.path = path
        self.correction = correction

    @torch.no_grad()
    def start_at(self, weight: Tensor, bias: Tensor | None = None) -> None:
        """Make this exactly the linear map ``weight @ x + bias`` (bias zero if None)."""
        self.path.weight.copy_(weight)
        self.path.bias.zero_() if bias is None else self.path.bias.copy_(bias)
        if self.correction is not None:
            self.correction.silence()

    def forward(self, x: Tensor) -> Tensor:
        if self.correction is None:
            return self.path(x)
        return self.path(x) + self.correction(x)


class AutoencoderOutput(NamedTuple):
    """The code ``z`` (n, n_components) and the decoder's output ``eta`` (n, n_features)."""

    z: Tensor
    eta: Tensor


class Autoencoder(nn.Module):
    """z = encoder(x), eta = decoder(z).

    Shape
    -----
    encode: (n, n_features) -> (n, n_components); decode: back.
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder

    def encode(self, x: Tensor) -> Tensor:
        return self.encoder(x)

    def decode(self, z: Tensor) -> Tensor:
        return self.decoder(z)

    def forward(self, x: Tensor) -> AutoencoderOutput:
        z = self.encode(x)
        return AutoencoderOutput(z, self.decode(z))


class Posterior(NamedTuple):
    """The normal q(z | x): ``mean`` and ``log_var``, both (n, n_components)."""

    mean: Tensor
    log_var: Tensor


class VAEOutput(NamedTuple):
    """``mean`` and ``log_var`` of the posterior, and draws ``z`` (n_draws, n, n_components) with their ``eta``."""

    mean: Tensor
    log_var: Tensor
    z: Tensor
    eta: Tensor


class VAE(nn.Module):
    """q(z | x) = N(mean, diag exp(log_var)), p(x | z) = likelihood(decoder(z)), p(z) = N(0, I).

    Parameters
    ----------
    encoder : nn.Module
        n_features to 2 n_components columns: means, then log-variances.
    decoder : nn.Module
        n_components to n_features columns.
    likelihood : nn.Module

    Shape
    -----
    encode: (n, n_features) -> (n, n_components), the posterior mean; decode: back.
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module, likelihood: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.likelihood = likelihood

    def posterior(self, x: Tensor) -> Posterior:
        return Posterior(*self.encoder(x).chunk(2, dim=-1))

    def encode(self, x: Tensor) -> Tensor:
        return self.posterior(x).mean

    def decode(self, z: Tensor) -> Tensor:
        return self.decoder(z)

    def forward(self, x: Tensor, noise: Tensor) -> VAEOutput:
        """With ``noise`` (n_draws, n or 1, n_components) of standard normal draws."""
        q = self.posterior(x)
        z = q.mean + (q.log_var / 2).exp() * noise
        eta = self.decode(z.flatten(0, 1)).reshape(*z.shape[:2], -1)
        return VAEOutput(q.mean, q.log_var, z, eta)


def fixed_draws(n_draws: int, n_components: int) -> Tensor:
    """Standard normal draws, always the same, with mean exactly zero and, if there are enough, identity covariance.

    Half of them are the other half mirrored. With ``n_draws >= 2 n_components`` the halves are made orthogonal, so that
    the mean of any quadratic function over the draws is its expectation.

    Shape
    -----
    (n_draws, 1, n_components), in float64; n_draws must be even.
    """
    generator = torch.Generator().manual_seed(0)
    half = torch.randn(n_draws // 2, n_components, generator=generator, dtype=torch.float64)
    if len(half) >= n_components:
        u, _, v = torch.linalg.svd(half, full_matrices=False)
        half = u @ v * len(half) ** 0.5
    return torch.cat([half, -half])[:, None, :]


def split_parameters(module: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """The trainable parameters in two lists: weights of the nonlinear part, which may be penalised, and the rest.

    The rest is every bias and scale (fewer than two dimensions) and the linear path of a `CorrectedLinear`.
    """
    linear_paths = {id(p) for m in _corrected(module) for p in m.path.parameters()}
    trainable = [p for p in module.parameters() if p.requires_grad]
    weights = [p for p in trainable if p.ndim > 1 and id(p) not in linear_paths]
    kept = {id(p) for p in weights}
    return weights, [p for p in trainable if id(p) not in kept]


def _corrected(module: nn.Module) -> Iterator[CorrectedLinear]:
    return (m for m in module.modules() if isinstance(m, CorrectedLinear))
