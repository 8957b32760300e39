"""Modules that `to_onnx` writes: from samples in units of X to codes, and back."""

from __future__ import annotations

import copy

from torch import Tensor, nn

from skae.networks.model import Model


class ExportedEncoder(nn.Module):
    """Samples in units of X to codes: (n, n_features) -> (n, n_components)."""

    def __init__(self, model: Model, n_components: int) -> None:
        super().__init__()
        self.model, self.n_components = model, n_components

    def forward(self, x: Tensor) -> Tensor:
        return self.model.to_codes(x, self.n_components)


class ExportedDecoder(nn.Module):
    """Codes to samples in units of X: (n, n_components) -> (n, n_features)."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def forward(self, z: Tensor) -> Tensor:
        return self.model.from_codes(z)


def exported(part: str, model: Model, n_components: int) -> tuple[nn.Module, int]:
    """Return the module of a part, which computes on the cpu, and the columns of its input."""
    model = copy.deepcopy(model).cpu()
    encoder, decoder = ExportedEncoder(model, n_components), ExportedDecoder(model)
    n_features = len(model.scaler.mean)
    if part == "autoencoder":
        return nn.Sequential(encoder, decoder), n_features
    return (encoder, n_features) if part == "encoder" else (decoder, n_components)
