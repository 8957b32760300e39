"""Base class of the networks: a decoder for each level, and the maps between units of X and codes."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from skae.linear.gaussian import LinearGaussian
from skae.linear.missing import mean_imputation
from skae.networks.corrected import CorrectedLinear
from skae.networks.imputation import Imputer
from skae.networks.landmarks import Landmarks
from skae.networks.layers import Differentiable, Pullback, differentiable
from skae.networks.preprocessing import CodeScaler, NewColumns, Scaler

# From this number of samples on, passes over the samples become fewer, and batches larger.
MANY_SAMPLES = 20_000
# Automatic widths of the encoder's hidden layers; below this number of samples a model may have narrower ones.
_WIDTHS, _IMAGE_WIDTHS, _FEW_SAMPLES = (256, 128), (128, 256), 5_000
# Most landmarks: of a fitted network, and in the validations of training.
_LANDMARKS, _IN_VALIDATION = 512, 128
# A mean is scaled to less than this; far from it if the scaler's location is another column's, or changed.
_FAR = 1e6
# Most contexts of which typical samples are looked at.
_CONTEXTS = 30


def derivatives(function: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    """Return the derivatives of a function of single samples by each column of z: (n, k) -> (n, k, n_out)."""
    # The fast kernels of attention have no second derivatives.
    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
        z = z.detach().requires_grad_()
        out = function(z)
        # The gradient of out @ direction is linear in the direction, and its slopes are the derivatives. torch's
        # forward mode has them, too, but takes more than a second to import.
        direction = torch.zeros_like(out, requires_grad=True)
        (gradient,) = torch.autograd.grad(out, z, direction, create_graph=True, materialize_grads=True)
        slopes = [torch.autograd.grad(part.sum(), direction, retain_graph=True)[0] for part in gradient.unbind(1)]
    return torch.stack(slopes, dim=1)


class Pace(NamedTuple):
    """Default schedule of training.

    Attributes
    ----------
    batch_share, largest_batch : int
        A batch has this part of the samples, and at most this many.
    rate, later_rate : float
        Peak learning rate of `fit`, and the constant one of `partial_fit`.
    epochs : float
        Share of ``max_iter``.
    squares_decay : float
        Weight of the old average in Adam's average of squared gradients.
    passes : int
        Epochs where ``max_iter`` is "auto".
    gain : float
        Factor of the initial weights and biases of the first layer: the larger, the less linear a network is at first.

    Notes
    -----
    These are for up to 20,000 samples. With n times as many, there are sqrt(n) times fewer epochs, and the largest
    batch is sqrt(n) times larger, so that the number of steps stays about the same: batches are powers of two.
    """

    batch_share: int = 12
    largest_batch: int = 128
    rate: float = 3e-3
    later_rate: float = 3e-3
    epochs: float = 1.0
    squares_decay: float = 0.999
    passes: int = 100
    gain: float = 1.7  # SiLU(1.7 x) / 1.7 is almost GELU(x)

    def auto_epochs(self, n_samples: int) -> int:
        """Return the number of epochs where ``max_iter`` is "auto", before ``epochs`` applies."""
        return math.ceil(self.passes / _times_as_many(n_samples))

    def auto_batch_size(self, n_samples: int) -> int:
        """Return the batch size: the power of two nearest to a part of the samples, from 32 to the largest."""
        sizes = n_samples / self.batch_share, self.largest_batch * _times_as_many(n_samples)
        return int(max(32, 2 ** round(math.log2(min(sizes)))))


def _times_as_many(n_samples: int) -> float:
    """Return the square root of n_samples over the number of samples that `Pace` is for, at least 1."""
    return max(1.0, n_samples / MANY_SAMPLES) ** 0.5


class Model(nn.Module):
    """An encoder and a decoder for each level: the first m columns of a code are a code of m components.

    The decoder of a level takes codes of the level's size and smaller ones, padded with zeros, that are larger than the
    level below. A model without ordered components has one level, of all components.

    Parameters
    ----------
    encoder : nn.Module
        (n, n_features + n_context), scaled -> codes, or the parameters of their posterior.
    decoder : nn.Module
        (n, n_components + n_context) -> (n, n_out); with several levels these come before n.
    levels : tuple of int
        Increasing; the last one is n_components.
    scaler : Scaler
    imputer : Imputer
    n_refinements : int, default=0
        Steps that improve codes in eval mode.
    n_context : int, default=0
        Columns of context, the last ones of the encoder's and the decoder's input.
    code_width : int, default=1
        Number of columns of the encoder's output for each component.

    Attributes
    ----------
    landmarks : Landmarks
    n_landmarks : int
        Largest number of landmarks of a fitted network.
    imputation_share : Tensor of shape (n_components,)
        Weight of the imputer's Gaussian model in imputed values, for each size of codes.
    sizes : Tensor of int of shape (n_levels, 1)
        The levels.
    """

    imputation_share: Tensor
    sizes: Tensor
    value_kinds = {"imputation_share": "share"}
    # Whether the loss has a unit; gradients are then divided by the loss of the start.
    has_unit = False
    # Whether the validation set is stratified by `misfit`.
    is_stratified = False
    # Draws of codes that all evaluations use, (n_draws, 1, n_components), if the model samples codes.
    evaluation_draws: Tensor | None = None
    # Numbers of refinement steps among which the end of a fit chooses, and that of the validations of training.
    step_choices: tuple[int, ...] = (0,)
    steps_in_training = 0
    # Automatic widths of plain networks for few samples.
    narrow_widths: tuple[int, ...] = _WIDTHS
    # Standard deviation of the noise that training adds to the inputs, (n_features,).
    input_noise: Tensor | None = None

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        levels: tuple[int, ...],
        scaler: Scaler,
        imputer: Imputer,
        n_refinements: int = 0,
        n_context: int = 0,
        code_width: int = 1,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.levels = levels
        self.scaler = scaler
        self.imputer = imputer
        self.n_refinements = n_refinements
        self.n_context = n_context
        self.landmarks = Landmarks(code_width * levels[-1])
        # What a code explains of a sample depends on the context, so that one matrix product does not find landmarks.
        self.n_landmarks = _LANDMARKS if n_refinements and not n_context else 0
        self.code_scaler = CodeScaler(levels[-1])
        self.register_buffer("imputation_share", torch.zeros(levels[-1]))
        self.register_buffer("sizes", torch.tensor(levels)[:, None], persistent=False)

    @property
    def n_components(self) -> int:
        return self.levels[-1]

    @classmethod
    def at_most(cls, n_components: int, shape: tuple[int, int]) -> int:
        """Return ``n_components``, or the largest number that samples of this shape allow."""
        return n_components

    @classmethod
    def least_weights(cls, spec: Any) -> int:
        """Return a lower bound on the number of weights of the network that is built from a `NetworkSpec`."""
        return spec.least_weights()

    @classmethod
    def auto_widths(cls, parameters: Mapping[str, Any], n_samples: int, n_features: int) -> tuple[int, ...]:
        """Return the widths where ``hidden_layer_sizes`` is "auto": of images, convolutions yield few features."""
        if parameters["feature_shape"] is not None:
            return _IMAGE_WIDTHS
        return cls.narrow_widths if cls.is_plain(parameters) and n_samples < _FEW_SAMPLES else _WIDTHS

    @classmethod
    def is_plain(cls, parameters: Mapping[str, Any]) -> bool:
        """Return whether both halves are skae's dense layers of one level, which start at a linear model."""
        others = ("ordered", "feature_shape", "encoder", "decoder")
        return parameters["start"] != "random" and not any(parameters[name] for name in others)

    @classmethod
    def pace(cls, spec: Any) -> Pace:
        """Return how the network of a `NetworkSpec` is trained."""
        return Pace()

    def hold_out(self, n_samples: int) -> None:
        """Set the size of the validation set."""

    # The choice of how codes are refined.

    @torch.no_grad()
    def begin_validation(self, x: Tensor) -> None:
        """Refine as validations in training do: in ``steps_in_training`` steps, from fewer landmarks.

        The landmarks are the encodings of the first of these training samples. Steps are scaled anew at these.
        """
        self.n_refinements = self.steps_in_training
        self.landmarks.codes = self.imputer(self.encoder, x[:_IN_VALIDATION])
        self.scale_steps(self.landmarks.codes)

    def reset_refinement(self) -> None:
        """Use no landmarks, and the number of steps of a fit without a validation set."""
        self.landmarks.codes, self.n_refinements = self.landmarks.codes[:0], self.step_choices[-1]

    def choose_refinement(self, x: Tensor, loss: Callable[[], float], most: float) -> float:
        """Choose the number of steps and whether to use landmarks, and return the validation loss of the choice.

        It is the fastest of those with nearly the lowest loss.

        Parameters
        ----------
        x : Tensor of shape (n_landmarks, n_features)
            Training samples, scaled.
        loss : callable
            Computes the validation loss of the current choice.
        most : float
            Loss that training found for these weights. That of the choice is not larger, unless all are.
        """
        self.reset_refinement()
        with torch.no_grad():
            landmarks = self.encode_landmarks(x)
        choices = [(n_steps, codes) for n_steps in self.step_choices for codes in (landmarks[:0], landmarks)]
        losses = []
        for choice in choices:
            self.n_refinements, self.landmarks.codes = choice
            losses.append(min(math.inf, loss()))  # in this order nan becomes inf
        limit = max(min(losses), min(self.as_good(min(losses)), most))
        chosen = next(i for i, found in enumerate(losses) if found <= limit)
        self.n_refinements, self.landmarks.codes = choices[chosen]
        return losses[chosen]

    def prepare(self) -> None:
        """Compute what depends on the weights alone once, in a copy whose weights do not change any more."""
        self.landmarks.prepare()

    def encode_landmarks(self, x: Tensor) -> Tensor:
        """Return the landmarks of a fitted network: (n_landmarks, n_features) -> rows of ``landmarks.codes``."""
        return self.imputer(self.encoder, x)

    def scale_steps(self, codes: Tensor) -> None:
        """Scale the steps of refinement at the encoder's outputs for training samples, if a model does."""

    def as_good(self, loss: float) -> float:
        """Return the highest validation loss at which a faster choice is preferred to one with this loss."""
        return loss

    # Hooks for subclasses, in addition to `build`, `scaler_of`, `start`, `objective` and `n_evaluated`.

    def codes(self, x: Tensor, n_components: int) -> Tensor:
        """Encode scaled samples: (n, n_features + n_context) -> (n, n_components)."""
        raise NotImplementedError

    def inverse_link(self, eta: Tensor, n_components: int) -> Tensor:
        """Return the mean of samples from the decoder's output for codes of this size."""
        raise NotImplementedError

    def reconstructions(self, outputs: Sequence[Tensor]) -> Tensor:
        """Return reconstructions in the scale of training targets, from the tensors of `forward`'s output."""
        raise NotImplementedError

    def mean_imputation(self) -> LinearGaussian:
        """Return the model that imputes the means of scaled samples."""
        location = self.scaler.mean if self.scaler.is_raw else torch.zeros_like(self.scaler.mean)
        return mean_imputation(location.numpy())

    # Codes in units of X.

    def inputs(self, X: Tensor, context: Tensor | None = None) -> Tensor:
        """Scale samples and append their context, (n, n_context) or (n_context,) for all samples."""
        x = self.scaler(X)
        if context is None or not self.n_context:
            return x
        return torch.cat([x, context.to(x).expand(x.shape[0], -1)], dim=1)

    def to_codes(self, X: Tensor, n_components: int, context: Tensor | None = None) -> Tensor:
        """Encode samples in units of X: (n, n_features) -> (n, n_components)."""
        return self.code_scaler(self.codes(self.inputs(X, context).to(self._dtype), n_components).to(X.dtype))

    def from_codes(self, Z: Tensor, context: Tensor | None = None) -> Tensor:
        """Decode codes to samples in units of X: (n, any size up to n_components) -> (n, n_features)."""
        size = self.decoded_size(Z.shape[1])
        codes = self.code_scaler.inverse(Z[:, :size]).to(self._dtype)
        if self.n_context and context is not None:
            codes = torch.cat([codes, context.to(codes).expand(codes.shape[0], -1)], dim=1)
        return self.scaler.inverse(self.inverse_link(self.decode(codes), Z.shape[1]).to(Z.dtype))

    def local_components(self, Z: Tensor, context: Tensor | None = None) -> Tensor:
        """Return the derivatives of `from_codes` by each component: (n, k) -> (n, k, n_features)."""
        return derivatives(lambda z: self.from_codes(z, context), Z)

    @property
    def _dtype(self) -> torch.dtype:
        """Dtype of the network between the scalers."""
        return self.imputer.location.dtype

    def decoded_size(self, n_components: int) -> int:
        """Return how many leading columns of a code of this size are decoded."""
        return n_components

    def linear_components(self, n_components: int) -> Tensor | None:
        """Return the decoder's linear path in units of X, (n_components, n_features); None if it has none."""
        decoder = self.decoder_of(self.decoded_size(n_components))
        if not isinstance(decoder, CorrectedLinear):
            return None
        n_features = len(self.scaler.mean)
        weight = decoder.linear_map()[0].detach()[:n_features, :n_components]
        unit = self.scaler.scale if self.scaler.is_identity else 1.0
        return self.code_scaler.inverse(weight).T * unit

    @torch.no_grad()
    def typical(self) -> Tensor:
        """Return codes and reconstructions of typical samples, flat; inf if means are not scaled to near zero."""
        x = self.scaler(self.scaler.mean[None])
        if not self.scaler.is_raw:
            if (x.abs() > _FAR).any():
                return x.new_full((1,), torch.inf)
            x = x + torch.tensor([[-1.0], [0.0], [1.0]], dtype=torch.float64).to(x)
        if self.n_context:
            some = torch.arange(0, self.n_context, -(-self.n_context // _CONTEXTS))
            contexts = torch.nn.functional.one_hot(some, self.n_context).to(x).repeat_interleave(len(x), 0)
            x = torch.cat([x.repeat(len(some), 1), contexts], dim=1)
        codes = self.codes(x, self.n_components)
        rows = self.decode(torch.cat([codes, x[:, len(self.scaler.mean) :]], dim=1))
        return torch.cat([100 * self.code_scaler(codes).flatten(), rows.flatten()])

    # Columns that begin to vary.

    @torch.no_grad()
    def begin_columns(self, new: NewColumns, x: Tensor, shares: Tensor) -> None:
        """Start at the regression on codes for columns that begin to vary in scaled samples, by the scaler.

        The regression is a ridge regression whose penalty is that of a standard normal prior for codes of variance 1.

        Parameters
        ----------
        new : NewColumns
        x : Tensor of shape (n, n_features + n_context)
        shares : Tensor of shape (n,)
            Numbers of samples that the samples stand for by their weights.
        """
        began, found = new
        if self.scaler.is_raw:  # own modules see all columns from the beginning
            self.imputer.location[: len(found)][found] = self.scaler.mean[found]
            return
        encoder: Any = self.encoder
        decoder: Any = self.decoder
        x, (scale, centre) = self.imputer.fill(x), self.scaler.output_map
        self.imputer.begin_columns(began, x, shares)
        samples, context = x.tensor_split([len(began)], dim=1)
        encoder.begin_inputs(began, samples, self.scaler.spread)
        z, target = self.codes(x, self.n_components), (scale * samples + centre)[:, began]
        decoder.set_outputs(found, centre)
        maps, roots = [], shares.sqrt()[:, None]
        for level in self.levels:
            rest = target - self.decode(torch.cat([z[:, :level], context], dim=1))[:, : len(began)][:, began]
            inputs = nn.functional.pad(z[:, :level], (0, self.n_components - level))
            inputs = roots * torch.cat([inputs, context, torch.ones_like(inputs[:, :1])], dim=1)
            penalised = inputs.T @ inputs + torch.eye(inputs.shape[1]).to(inputs)
            maps.append(torch.linalg.solve(penalised, inputs.T @ (roots * rest)).T)
        fitted = torch.stack(maps).squeeze(0)
        decoder.begin_outputs(began, fitted[..., :-1], fitted[..., -1])

    # Levels.

    def decoder_of(self, size: int, decoder: Any = None) -> nn.Module:
        """Return the decoder for codes of this size: that of the smallest level of at least this size.

        ``decoder`` is that of all levels, by default the network's own.
        """
        decoder = self.decoder if decoder is None else decoder
        return decoder if len(self.levels) == 1 else decoder.at(bisect_left(self.levels, size))

    def decode(self, z: Tensor, decoder: nn.Module | None = None) -> Tensor:
        """Decode codes of any size, and their context: (n, size + n_context) -> (n, n_out).

        ``decoder`` is what `decoder_of` returns for the size, for those who call more than once.
        """
        size = z.shape[-1] - self.n_context
        if size < self.n_components:
            padded = nn.functional.pad(z[..., :size], (0, self.n_components - size))
            z = torch.cat([padded, z[..., size:]], dim=-1) if self.n_context else padded
        return (self.decoder_of(size) if decoder is None else decoder)(z)

    def outputs(self, z: Tensor, sizes: Tensor) -> Tensor:
        """Decode codes cut to these sizes (n_levels, 1 or n), at each level: (n, k) or (n_levels, n, k) -> n_out."""
        if len(self.levels) == 1:
            return self.decoder(z)
        return self.decoder(z * self._kept(z, sizes))

    def _kept(self, z: Tensor, sizes: Tensor) -> Tensor:
        """Return the mask of the columns of codes that are kept: (n_levels, 1 or n, k)."""
        column = torch.arange(z.shape[-1], device=z.device)
        return (column < sizes.unsqueeze(-1)) | (column >= self.n_components)

    def differentiable_outputs(self) -> Differentiable:
        """Return the function of codes (n, k) that decodes them at each level, with its gradients."""
        decoder = differentiable(self.decoder)
        if len(self.levels) == 1:
            return decoder

        def apply(z: Tensor) -> tuple[Tensor, Pullback]:
            kept = self._kept(z, self.sizes)
            out, back = decoder(z * kept)
            return out, lambda gradient: (back(gradient) * kept).sum(0)

        return apply

    def training_sizes(self, counts: Tensor) -> Tensor:
        """Return the size to which codes are cut at each level, (n_levels, n).

        Every fourth count gets a size between the level and the one below, each in turn; the others get the level's
        size. This is nested dropout (Rippel et al. 2014, arXiv:1402.0915) in which the sizes of levels are trained
        most.
        """
        level = torch.tensor(self.levels).to(counts.device, non_blocking=True)[:, None]
        if len(self.levels) == 1:
            return level
        between = level.diff(dim=0, prepend=torch.zeros_like(level[:1])) - 1
        cut = level - 1 - (counts // 4) % between.clamp_min(1)
        return torch.where((counts % 4 == 0) & (between > 0), cut, level)

    @torch.no_grad()
    def _start_encoder(
        self, low_high: Tensor, weight: Tensor, bias: Tensor | None, input_unit: Tensor, unit: Tensor | float
    ) -> None:
        """Start the encoder at a linear map, with zero weights for the mask; ``low_high`` is the range of its inputs.

        ``low_high`` is of shape (2, n_features + n_context).
        """
        n_masked = low_high.shape[1] if self.imputer.masked else 0
        low_high = torch.cat([low_high, torch.tensor([[0.0], [1.0]]).expand(2, n_masked)], dim=1)
        pad: Callable[..., Tensor] = nn.functional.pad
        weight, input_unit = pad(weight, (0, n_masked)), pad(input_unit, (0, n_masked), value=1)
        self.encoder.start_at(weight, bias, input_unit, unit, low_high)  # type: ignore[operator]
