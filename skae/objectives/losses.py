"""Reconstruction losses, with the inverse link from the decoder's output to a reconstruction."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def poisson(eta: Tensor, x: Tensor, reduction: str = "none") -> Tensor:
    """Return x log(x / mu) - x + mu, mu = exp(eta): half the Poisson deviance, in nats, for x >= 0."""
    deviance = torch.special.xlogy(x, x) - x * eta - x + eta.exp()
    return deviance.mean() if reduction == "mean" else deviance


def cross_entropy(eta: Tensor, x: Tensor, reduction: str = "none") -> Tensor:
    """Return -x log softmax(eta), whose sum over the categories of a variable is its cross-entropy, in nats."""
    entries = -x * eta.log_softmax(-1)
    return entries.mean() if reduction == "mean" else entries


class Loss(NamedTuple):
    """Reconstruction loss.

    Attributes
    ----------
    entry : callable (eta, x, reduction="none" or "mean") -> Tensor
        Maps the decoder's output and the scaled samples, both (..., n_features), to the loss of each entry or, with
        ``reduction="mean"``, to its mean over entries.
    inverse_link : callable Tensor -> Tensor, default=torch.nn.Identity()
        Maps the decoder's output to the reconstruction.
    link : "identity", "logit", "log" or "indicator", default="identity"
        Name of the inverse of ``inverse_link``.
    degree : int, default=0
        The loss of ``c x`` and ``c eta`` is ``c ** degree`` times that of ``x`` and ``eta``; 0 if the loss does not
        scale.
    support : "real", "unit_interval", "non_negative", "counts" or "categories", default="real"
        Values that the loss is defined on. A loss of categories gets the one-hot encoded columns of one variable.
    projects : bool, default=False
        Whether the best code of a linear decoder is the orthogonal projection of the sample. Codes are then refined by
        least-squares steps.
    """

    entry: Callable[..., Tensor]
    inverse_link: Callable[[Tensor], Tensor] = nn.Identity()
    link: str = "identity"
    degree: int = 0
    support: str = "real"
    projects: bool = False

    @property
    def needs_table(self) -> bool:
        """Whether X is a table whose columns are encoded first."""
        return self.support == "categories"


# The Huber loss (1964) is half the squared error below a distance of 1, and the absolute error minus 1/2 above. The log
# loss is the Bernoulli cross-entropy in nats, -x log p - (1 - x) log(1 - p) with p = sigmoid(eta), for x in [0, 1].
LOSSES = {
    "squared_error": Loss(partial(F.mse_loss, reduction="none"), degree=2, projects=True),
    "absolute_error": Loss(partial(F.l1_loss, reduction="none"), degree=1),
    "huber": Loss(partial(F.huber_loss, reduction="none"), degree=2),
    "log_loss": Loss(
        partial(F.binary_cross_entropy_with_logits, reduction="none"), torch.sigmoid, "logit", support="unit_interval"
    ),
    "poisson": Loss(poisson, torch.exp, "log", support="non_negative"),
    "cross_entropy": Loss(cross_entropy, partial(torch.softmax, dim=-1), "indicator", support="categories"),
}


def register_loss(name: str, loss: Loss) -> None:
    """Make a loss available to estimators as ``loss=name``.

    Parameters
    ----------
    name : str
        Name of the loss. A loss that has the name already is replaced.
    loss : Loss
        The loss.

    Examples
    --------
    >>> import torch
    >>> from skae.objectives import LOSSES, Loss, register_loss
    >>> def log_cosh(eta, x, reduction="none"):
    ...     entries = torch.nn.functional.softplus(2 * (eta - x)) - (eta - x)
    ...     return entries.mean() if reduction == "mean" else entries
    >>> register_loss("log_cosh", Loss(log_cosh))
    >>> LOSSES.pop("log_cosh").link
    'identity'
    """
    LOSSES[name] = loss


def mixed_loss(parts: Sequence[tuple[str, Sequence[int]]]) -> Loss:
    """Return the loss of columns with different losses.

    Parameters
    ----------
    parts : sequence of (str, sequence of int)
        From left to right, the name of a loss and the number of columns of each of its variables.
    """
    by_width = [(LOSSES[name], width) for name, widths in parts for width in _at_once(name, widths)]
    losses, widths = zip(*by_width, strict=True)

    def entry(eta: Tensor, x: Tensor, reduction: str = "none") -> Tensor:
        columns = zip(losses, eta.split(widths, -1), x.split(widths, -1), strict=True)
        entries = torch.cat([loss.entry(of_eta, of_x) for loss, of_eta, of_x in columns], -1)
        return entries.mean() if reduction == "mean" else entries

    def inverse_link(eta: Tensor) -> Tensor:
        columns = zip(losses, eta.split(widths, -1), strict=True)
        return torch.cat([loss.inverse_link(of_eta) for loss, of_eta in columns], -1)

    return Loss(entry, inverse_link, "mixed")


def _at_once(name: str, widths: Sequence[int]) -> Sequence[int]:
    """Return the numbers of columns that a loss gets at once: those of a variable, or of all."""
    return widths if LOSSES[name].support == "categories" else [sum(widths)]
