"""Refinement of codes by gradient descent for each sample, from the encoder's estimate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import torch
from torch import Tensor

# A step is taken in full if it lowers a sample's error by this share, or raises its bound by this many nats.
WORTHWHILE = 0.01
# Components that get a Sobol sequence, which is no better than random draws in many dimensions; and the least distance
# of its points from 0 and 1.
_SOBOL, _LEAST = 32, 1e-9


def descend(
    objective: Callable[..., Tensor],
    direction: Callable[[Sequence[Tensor], Sequence[Tensor]], Sequence[Tensor]],
    point: Sequence[Tensor],
    n_steps: int,
    worthwhile: Callable[[Tensor], Tensor],
) -> Sequence[Tensor]:
    r"""Minimise an objective by gradient descent, for each sample independently.

    Each sample has its own step size along the direction, 1 at first. A step that does not lower the objective is not
    taken, and the step size shrinks. A step that lowers it by little is taken in part, so that rounding does not decide
    between two points.

    Parameters
    ----------
    objective : callable (\*point) -> Tensor of shape (n,)
    direction : callable (point, gradients) -> tensors like point
        Step from a point.
    point : sequence of Tensor of shape (n, k)
    n_steps : int
    worthwhile : callable
        Maps the objective to the decrease from which on a step is taken in full.

    Returns
    -------
    sequence of Tensor of shape (n, k)
    """

    def at(point: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        with torch.enable_grad():
            leaves = [p.detach().requires_grad_() for p in point]
            value = objective(*leaves)
            gradients = torch.autograd.grad(value.sum(), leaves)
        with torch.no_grad():
            return value.detach()[:, None], list(direction(leaves, gradients))

    point = [p.detach() for p in point]  # no gradients flow into the result
    value, move = at(point)
    step = torch.ones_like(value)
    for left in reversed(range(n_steps)):
        proposal = [p + step * m for p, m in zip(point, move, strict=True)]
        if left:
            new_value, new_move = at(proposal)
        else:  # no further step needs a direction
            with torch.no_grad():
                new_value, new_move = objective(*proposal)[:, None], move
        taken = ((value - new_value) / worthwhile(value)).nan_to_num(0.0).clamp(0, 1)
        point = [_towards(p, q, taken) for p, q in zip(point, proposal, strict=True)]
        move = [_towards(m, new, taken) for m, new in zip(move, new_move, strict=True)]
        value = _towards(value, new_value, taken)
        step = step * torch.lerp(torch.full_like(taken, 0.25), torch.full_like(taken, 1.2), taken)
    return point


def _towards(old: Tensor, new: Tensor, taken: Tensor) -> Tensor:
    """Interpolate from old to new by ``taken`` (n, 1); where it is 0, return old even if new is not finite."""
    return torch.where(taken > 0, old.lerp(new, taken), old)


def inverse_of(curvature: Tensor) -> Tensor:
    """Return 1 / curvature, and 0 where it is not positive."""
    return torch.where(curvature > 0, 1 / curvature, 0)


@lru_cache(maxsize=8)
def fixed_draws(n_draws: int, n_components: int) -> Tensor:
    """Return fixed standard normal draws with mean exactly zero and identity covariance.

    They are antithetic pairs of a scrambled Sobol sequence (Owen 1998), whose means have a smaller error than those of
    as many random draws. With ``n_draws >= 2 n_components`` one half is orthogonalised, so that the mean of any
    quadratic function over the draws equals its expectation. With fewer draws the covariance is not exact.

    Shape
    -----
    (n_draws, 1, n_components), in float64; n_draws must be even.
    """
    sequence = torch.quasirandom.SobolEngine(min(n_components, _SOBOL), scramble=True, seed=0)
    first = sequence.quasi.double() / 2**sequence.MAXBIT  # the engine has it in torch's default precision
    points = torch.cat([first[None], sequence.draw(n_draws // 2, dtype=torch.float64)[1:]])
    generator = torch.Generator().manual_seed(0)
    further = torch.randn(n_draws // 2, n_components - points.shape[1], generator=generator, dtype=torch.float64)
    half = torch.cat([torch.special.ndtri(points.clamp(_LEAST, 1 - _LEAST)), further], dim=1)
    if len(half) >= n_components:
        u, _, v = torch.linalg.svd(half, full_matrices=False)
        half = u @ v * len(half) ** 0.5
    return torch.cat([half, -half])[:, None, :]


def sign_draws(n_components: int) -> Tensor:
    """Return draws of -1 and 1 in antithetic pairs, which replace more standard normal draws.

    There are two draws of one component, four of two, and eight of three to eight. Above that their number is
    n_components rounded up to a power of two. Each component has mean zero and variance one over the draws. For the
    bound of a linear Gaussian model this suffices if the precision of its posterior is diagonal. The first n_draws / 2
    components are Walsh functions, and so uncorrelated. Further ones are these times another pattern, and have
    correlations of 1/2 with some of the first.

    Shape
    -----
    (n_draws, 1, n_components), in float64.
    """
    half = 1
    while half < min(n_components, 4) or 2 * half < n_components:
        half *= 2
    row, column = torch.arange(half)[:, None], torch.arange(n_components)[None, :]

    def parity(bits: Tensor) -> Tensor:
        for shift in (16, 8, 4, 2, 1):
            bits = bits ^ (bits >> shift)
        return bits & 1

    pattern = (column >= half) & (row & 3 == 3)
    signs = 1 - 2 * (parity(row & column % half) ^ pattern).double()
    return torch.cat([signs, -signs])[:, None, :]
