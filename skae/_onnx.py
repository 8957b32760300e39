"""Fitted nets as ONNX graphs, which other runtimes compute: raw rows in, codes out, and back."""

from __future__ import annotations

import copy

import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from skae import _validation as check
from skae._base import BaseNetTransformer
from skae._engine import no_gradients
from skae._onnx_graph import write_graph
from skae._search import AutoencoderTransformerCV
from skae._version import __version__
from skae.nn import Levels, OrderedVAE
from skae.starts import SHRINKAGE

# Names of a graph's input and output.
_ENDS = {"encoder": ("rows", "codes"), "decoder": ("codes", "rows"), "autoencoder": ("rows", "reconstruction")}


def to_onnx(estimator, path, part="encoder"):
    """Write a fitted net as an ONNX file, scaling included, for runtimes without Python or torch.

    Parameters
    ----------
    estimator : AutoencoderTransformer, VAEGenerator or AutoencoderTransformerCV
        Fitted, and to rows of numbers: of a table of mixed columns a graph could not take the columns.
    path : str or path-like
        Of the file, which is written anew.
    part : {"encoder", "decoder", "autoencoder"}, default="encoder"
        "encoder" is `transform`, "decoder" `inverse_transform`, "autoencoder" the one after the other.

    Raises
    ------
    ImportError
        Without the package onnx, which ``pip install 'skae[onnx]'`` brings.
    TypeError
        If the estimator is none of these.
    ValueError
        If there is no such part, columns have a likelihood each, the model is conditional, or an own module does what
        cannot be exported.

    Notes
    -----
    The graph has one input and one output, of float64 and of any number of rows, ``(n, n_features_in_)`` or
    ``(n, n_components_)``: "rows" to "codes", "codes" to "rows", and "rows" to "reconstruction". Rows are in X's units,
    codes in those of `transform`. They are centred and scaled in float64, so that a large offset costs nothing; the net
    between computes in float32. Steps that refine codes, with the gradients that they follow, are part of the graph;
    gaps (nan) are filled as `transform` fills them. What rows have to be, such as counts, the graph does not check.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skae import AutoencoderTransformer, to_onnx
    >>> X, _ = load_iris(return_X_y=True)
    >>> autoencoder = AutoencoderTransformer(2, max_iter=0).fit(X)
    >>> to_onnx(autoencoder, "encoder.onnx")  # doctest: +SKIP
    """
    check.check_choice("part", part, _ENDS)
    if isinstance(estimator, AutoencoderTransformerCV):
        check_is_fitted(estimator)
        estimator = estimator.best_estimator_
    if not isinstance(estimator, BaseNetTransformer):
        raise TypeError(
            f"{type(estimator).__name__} is no estimator of skae. Of a Pipeline or a search pass the estimator inside, "
            "such as pipeline[-1], and export other steps by a package that knows them."
        )
    check_is_fitted(estimator)
    if getattr(estimator, "_plan", None) is not None:
        raise ValueError(
            f"This {type(estimator).__name__} was fitted to columns of several kinds (likelihood="
            f"{estimator.likelihood!r}), which a graph cannot take as they are. Fit one to rows of numbers, with one "
            "likelihood for all columns, to export it."
        )
    if estimator._design.get("conditional"):
        raise ValueError(
            f"This {type(estimator).__name__} is conditional on classes, which a graph of rows or codes alone cannot "
            "take. Fit one with conditional=False to export it."
        )
    try:
        import onnx  # noqa: F401  (what writes the graph imports it again)
    except ImportError as error:
        raise ImportError("to_onnx needs the package onnx. Run pip install 'skae[onnx]'.") from error
    about = f"{part} of a {type(estimator).__name__}, by skae {__version__}"
    try:
        with no_gradients():
            graph, n_columns = _graph(estimator, part)
            write_graph(graph, n_columns, path, *_ENDS[part], about)
    except OSError:
        raise
    except Exception as error:  # whatever tracing a user's module may raise
        own = [name for name in ("encoder", "decoder") if estimator._design[name] is not None]
        if not own:
            raise
        raise ValueError(
            f"The {part} cannot be exported: {error}. Its {' and '.join(own)} must be made of layers that ONNX has, "
            "and must not depend on values, or on the number of rows, other than by operations on tensors."
        ) from error


def _graph(estimator, part):
    """The module to export, and the columns of its input."""
    if part == "encoder":
        return Encoder(estimator), estimator.n_features_in_
    if part == "decoder":
        return Decoder(estimator), estimator.n_components_
    return nn.Sequential(Encoder(estimator), Decoder(estimator)), estimator.n_features_in_


def _module(estimator):
    """A copy of the fitted module that computes on the cpu, in float32."""
    return copy.deepcopy(estimator.net_.inference_module(torch.float32)).cpu()


class Encoder(nn.Module):
    """Rows in units of X to codes: (n, n_features) -> (n, n_components), both in float64."""

    def __init__(self, estimator):
        super().__init__()
        module = _module(estimator)
        module = module.at(module.levels[-1]) if isinstance(module, OrderedVAE) else module
        module.completion = Filling(module.completion)
        if hasattr(module, "likelihood"):
            module.likelihood = Observed(module.likelihood)
        self.module, self.frame = module, Standardisation(estimator._frame)
        self.register_buffer("scale", torch.from_numpy(estimator._code_scale[: estimator.n_components_]))

    def forward(self, x: Tensor) -> Tensor:
        codes = self.module.encode(self.frame.to_net(x).float())
        return codes[:, : len(self.scale)].double() * self.scale


class Decoder(nn.Module):
    """Codes to rows in units of X: (n, n_components) -> (n, n_features), both in float64."""

    def __init__(self, estimator):
        super().__init__()
        module, n_decoded = _module(estimator), estimator._n_decoded(estimator.n_components_)
        in_order = isinstance(module, Levels)
        self.decoder = module.decoder_of(n_decoded) if in_order else module.decoder
        self.n_missing = module.levels[-1] - n_decoded if in_order else 0
        self.mean, self.frame = estimator._output_mean(module), Standardisation(estimator._frame)
        self.register_buffer("scale", torch.from_numpy(estimator._code_scale[:n_decoded]))

    def forward(self, z: Tensor) -> Tensor:
        codes = (z[:, : len(self.scale)] / self.scale).float()
        eta = self.decoder(nn.functional.pad(codes, (0, self.n_missing)))
        return self.frame.from_net(self.mean(eta).double())


class Standardisation(nn.Module):
    """A `Frame` of tensors."""

    def __init__(self, frame):
        super().__init__()
        self.raw, self.link = frame.raw, frame.link
        scale = frame.scale * torch.ones(len(frame.mean), dtype=torch.float64).numpy()
        shares = frame.shares if frame.link == "share" else frame.mean
        for name in ("mean", "location", "constant"):
            self.register_buffer(name, torch.from_numpy(getattr(frame, name)))
        self.register_buffer("scale", torch.from_numpy(scale))
        self.register_buffer("shares", torch.from_numpy(shares))

    def to_net(self, x: Tensor) -> Tensor:
        if self.raw:
            return x
        return torch.where(self.constant, 0.0, (self._linked(x) - self.location) / self.scale)

    def from_net(self, mean: Tensor) -> Tensor:
        if self.raw:
            return mean
        rows = mean * self.scale + self.location if self.link == "identity" else mean
        return rows if self.link == "share" else torch.where(self.constant, self.mean, rows)

    def _linked(self, x: Tensor) -> Tensor:
        if self.link == "logit":
            shrunk = SHRINKAGE / 2 + (1 - SHRINKAGE) * x
            return (shrunk / (1 - shrunk)).log()
        if self.link == "log":
            return ((1 - SHRINKAGE) * x + torch.where(self.constant, 1.0, SHRINKAGE * self.mean)).log()
        if self.link == "share":
            missing = x.isnan()
            total = torch.where(missing, 0.0, x).sum(1, keepdim=True)
            there = torch.where(missing, 0.0, self.shares).sum(1, keepdim=True)
            of_row = torch.where(total > 0, there * x / torch.where(total > 0, total, 1.0), self.shares)
            return ((1 - SHRINKAGE) * torch.where(missing, x, of_row) + SHRINKAGE * self.shares).log()
        return x


class Filling(nn.Module):
    """A `Completion` that looks for gaps without asking whether there are any, and needs no factorisation."""

    def __init__(self, completion):
        super().__init__()
        self.masked = completion.masked
        used = completion.loadings.any(0)
        self.register_buffer("location", completion.location.double())
        self.register_buffer("loadings", completion.loadings[:, used].double())
        self.register_buffer("noise", completion.noise.double())

    def fill(self, x: Tensor) -> Tensor:
        missing = x.isnan()
        if not self.loadings.numel():
            return torch.where(missing, self.location.to(x), x)
        weighted = torch.where(missing[:, :, None], 0.0, self.loadings / self.noise[:, None])
        centred = torch.where(missing, 0.0, x.double() - self.location)
        identity = torch.eye(self.loadings.shape[1], dtype=torch.float64)
        precision, given = identity + weighted.mT @ self.loadings, weighted.mT @ centred[:, :, None]
        # Gauss and Jordan's elimination, safe without a choice of pivots since the precision is positive definite.
        system = torch.cat([precision, given], dim=2)
        for i, unit in enumerate(identity):
            row = system[:, i : i + 1] / system[:, i : i + 1, i : i + 1]
            system = system - (system[:, :, i : i + 1] - unit[:, None]) * row
        expected = self.location + system[:, :, -1] @ self.loadings.mT
        return torch.where(missing, expected.to(x), x)

    def forward(self, encoder: nn.Module, x: Tensor) -> Tensor:
        filled = self.fill(x)
        return encoder(torch.cat([filled, x.isnan().to(x)], dim=-1) if self.masked else filled)


class Observed(nn.Module):
    """A `Likelihood` that leaves gaps out without asking whether there are any."""

    def __init__(self, likelihood):
        super().__init__()
        self.likelihood = likelihood

    def forward(self, eta: Tensor, x: Tensor) -> Tensor:
        observed = ~x.isnan()
        log_prob = self.likelihood.log_prob(eta, torch.where(observed, x, 0.0))
        return (log_prob * self.likelihood.varies * observed).sum(-1)
