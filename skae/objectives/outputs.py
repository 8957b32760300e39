"""What networks return, and objectives take."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class ReconstructionOutput(NamedTuple):
    """Output of an autoencoder.

    Attributes
    ----------
    z : Tensor of shape (n, n_components)
        Codes.
    eta : Tensor of shape (n, n_features) or (n_levels, n, n_features)
        Output of the decoder, before the inverse link.
    weight : Tensor broadcastable to eta, or None
        Weight of each level in the loss.
    """

    z: Tensor
    eta: Tensor
    weight: Tensor | None = None


class VAEOutput(NamedTuple):
    """Output of a variational autoencoder at one size.

    Attributes
    ----------
    mean, log_var : Tensor of shape (n, n_components)
        Parameters of the normal posterior q(z | x).
    z : Tensor of shape (n_draws, n, n_components)
        Draws from it.
    eta : Tensor of shape (n_draws, n, n_outputs)
        Output of the decoder at these.
    context : Tensor of shape (n, n_context) or None
        What the model is conditional on.
    """

    mean: Tensor
    log_var: Tensor
    z: Tensor
    eta: Tensor
    context: Tensor | None = None
