"""Refinement of codes by gradient descent for each sample, from the encoder's estimate."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

# A step is taken in full if it lowers a sample's error by this share, or raises its bound by this many nats.
WORTHWHILE = 0.01
# Factors on a step size: the most after a step that was not taken, the most after one that was taken in full, and the
# least.
_SHRINKING, _GROWTH, _LEAST_CHANGE = 0.25, 4.0, 0.1
# Components that get a Sobol sequence, which is no better than random draws in many dimensions; and the least distance
# of its points from 0 and 1.
_SOBOL, _LEAST = 32, 1e-9
# Units in the last place of a value below which a gain is rounding.
_ROUNDING = 4
# An objective's value for each sample (n,), and a function that returns its gradient by z, (n, k).
Objective = Callable[[Tensor], tuple[Tensor, Callable[[], Tensor]]]


@torch.no_grad()
def descend(
    objective: Objective,
    scaled: Callable[[Tensor], Tensor],
    z: Tensor,
    n_steps: int,
    worthwhile: Callable[[Tensor], Tensor],
) -> Tensor:
    """Minimise an objective by scaled gradient descent, for each sample independently.

    Each sample has its own step size, 1 at first. After a step, the size is changed so that the slope along this step
    would become zero, if it changed linearly (the secant method). The change is limited. A step that does not lower the
    objective is not taken. A step that lowers it by little is taken in part, so that rounding does not decide between
    two points.

    Parameters
    ----------
    objective : callable (z) -> Tensor of shape (n,), callable () -> Tensor of shape (n, k)
    scaled : callable
        Maps gradients (n, k) to steps of size 1, apart from the sign: gradients over an estimate of the curvature.
    z : Tensor of shape (n, k)
    n_steps : int
    worthwhile : callable
        Maps the objective to the decrease from which on a step is taken in full.

    Returns
    -------
    Tensor of shape (n, k)
    """
    if not n_steps:
        return z
    value, gradient = objective(z)
    value, step, n = value[:, None], torch.ones_like(value[:, None]), z.shape[1]
    rounding = _ROUNDING * torch.finfo(value.dtype).eps
    state = torch.cat([z, gradient(), value], dim=1)
    for left in reversed(range(n_steps)):
        z, slope, value = state.split([n, n, 1], dim=1)
        move = -step * scaled(slope)
        proposal = z + move
        new, gradient = objective(proposal)
        gain = value - new[:, None]
        is_taken, taken = gain > rounding * value.abs(), (gain / worthwhile(value)).clamp_max(1)
        if not left:  # no further step needs a gradient
            return torch.where(is_taken, z.lerp(proposal, taken), z)
        next_slope = gradient()
        most = torch.where(is_taken, _SHRINKING + (_GROWTH - _SHRINKING) * taken, _SHRINKING)
        before, after = (-(move * part).sum(1, keepdim=True) for part in (slope, next_slope))
        secant = torch.where(before > after, before / (before - after), most)
        step = step * secant.minimum(most).clamp_min(_LEAST_CHANGE)
        there = torch.cat([proposal, next_slope, new[:, None]], dim=1)
        state = torch.where(is_taken, state.lerp(there, taken), state)  # there may be infinite or nan
    return z


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
