"""The autoencoder: codes and reconstructions, of one size or of several at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from skae._torch import evaluation_batch_size
from skae.linear.gaussian import LinearGaussian
from skae.linear.missing import n_imputation_components
from skae.linear.pca import PCAStart, leading, sum_of_squares
from skae.networks.halves import NetworkSpec
from skae.networks.imputation import Imputer
from skae.networks.layers import Gated
from skae.networks.model import MANY_SAMPLES, Model, Pace
from skae.networks.preprocessing import Scaler
from skae.networks.refinement import WORTHWHILE, descend
from skae.objectives import LOSSES, Loss, ReconstructionObjective, ReconstructionOutput, mixed_loss

# A faster projection is as good if its validation loss is larger by at most this share.
_AS_GOOD = 0.01
# Adam's average of squared gradients looks less far back than by default, since training takes few steps.
_SQUARES_DECAY = 0.95
# Codes that scale the steps of the refinement: at most the first number over components, but at least the second. They
# are moved by the third times their standard deviation.
_MOST_SCALED, _LEAST_SCALED, _SHIFT = 256, 8, 0.1
# Automatic widths on large tables, and most columns of these, which bound the memory of the first layer.
_LARGE_WIDTHS, _MOST_COLUMNS = (1000, 500, 250), 4096
# Networks with a layer of more units than this are trained at the lowest rate.
_WIDE = 512
# Errors are relative to the variance that PCA leaves unexplained, or to this share of the total if that is larger.
_LEAST_LEFT = 1e-7
# The smallest unit of training, relative to the scale of the data: smaller ones come near to rounding errors.
_SMALLEST_UNIT = 1e-7


class Autoencoder(Model):
    r"""z = encoder(x), and eta = decoder(z) at each level.

    In eval mode, with refinements, a code is refined to bring the reconstructions of all levels nearer to the sample,

    .. math:: \min_z \sum_m w_m \, \lVert g_m(z_{1:m}) - x \rVert^2

    by gradient steps. ``step_scaling`` scales them: at the start by the curvature of this sum at PCA, so that with one
    level a step is the orthogonal projection, and after training by the decoder's. The first guess is the encoder's
    code or the nearest landmark, whichever is nearer. Training uses no refinement: the encoder learns to reach the
    refined codes by itself.

    Parameters
    ----------
    loss : Loss
    noise : float, default=0.0
        Standard deviation of the noise on the inputs in training, relative to each column's.
    sparsity : float, default=0.0
        As for `ReconstructionObjective`.
    is_ordered : bool, default=False
        Whether the components are ordered, and errors are relative to PCA's.
    encoder, decoder, levels, scaler, imputer, n_refinements
        As for `Model`.

    Attributes
    ----------
    step_scaling : Tensor of shape (n_components, n_components)
        Gradients times this are steps of size 1, apart from the sign.
    size_weights : Tensor of shape (n_components,)
        Weight of the error of codes cut to each size.
    decoded : Tensor of int of shape (n_components,)
        How many columns of a code of each size are decoded: fewer than the size if a smaller size reconstructs better.

    Shape
    -----
    codes: (n, n_features) -> (n, n_components); decode: (n, any size up to that) -> (n, n_features).
    """

    size_weights: Tensor
    decoded: Tensor
    n_seen: Tensor
    step_scaling: Tensor
    value_kinds = Model.value_kinds | {"decoded": "leading"}
    has_unit = True
    step_choices = (0, 1, 2, 3)
    steps_in_training = 2
    narrow_widths = (192, 96)

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        levels: tuple[int, ...],
        scaler: Scaler,
        imputer: Imputer,
        loss: Loss,
        n_refinements: int = 0,
        noise: float = 0.0,
        sparsity: float = 0.0,
        is_ordered: bool = False,
    ) -> None:
        super().__init__(encoder, decoder, levels, scaler, imputer, n_refinements)
        self.loss, self.noise, self.sparsity, self.is_ordered = loss, noise, sparsity, is_ordered
        self.register_buffer("size_weights", torch.ones(levels[-1]))
        self.register_buffer("decoded", torch.arange(1, levels[-1] + 1))
        self.register_buffer("step_scaling", torch.zeros(levels[-1], levels[-1]))
        self.register_buffer("n_seen", torch.zeros((), dtype=torch.long))  # samples, in training

    @classmethod
    def scaler_of(cls, n_features: int, links: str | tuple[str, ...], is_raw: bool) -> Scaler:
        """Return the scaler of samples: one scale for all columns, which keeps PCA's geometry, if they share a link."""
        return Scaler(n_features, links, per_column=not isinstance(links, str), is_raw=is_raw)

    @classmethod
    def auto_widths(cls, parameters: Mapping[str, Any], n_samples: int, n_features: int) -> tuple[int, ...]:
        """Return the automatic widths, larger for many samples and columns, unless components are ordered."""
        widths = super().auto_widths(parameters, n_samples, n_features)
        is_large = n_samples >= MANY_SAMPLES and widths[0] < n_features <= _MOST_COLUMNS
        return _LARGE_WIDTHS if is_large and not (parameters["feature_shape"] or parameters["ordered"]) else widths

    @classmethod
    def pace(cls, spec: NetworkSpec) -> Pace:
        """Return the schedule of training: with several levels fewer epochs, since these take longer."""
        if spec.is_random:
            return Pace()
        if spec.is_ordered:
            return Pace(rate=6e-3, epochs=0.4)
        if spec.parameters["feature_shape"]:
            return Pace(rate=5e-3, squares_decay=_SQUARES_DECAY)
        widest = max(spec.parameters["hidden_layer_sizes"], default=0)
        if widest > _WIDE:
            return Pace(passes=140)
        rate, passes = (1e-2, 120) if widest <= cls.narrow_widths[0] else (8e-3, 90)
        # With fewer components, a start that is less linear lowers the error more.
        gain = max(1.0, 4 * (2 / max(2, spec.n_components)) ** 0.5)
        return Pace(6, 256, rate=rate, squares_decay=_SQUARES_DECAY, passes=passes, gain=gain)

    takes_any_width = False

    @staticmethod
    def wrap_own(module: nn.Module, width: int, n_out: int, n_levels: int, generator: torch.Generator) -> nn.Module:
        """Return a user's own module as a correction: behind gates that start at zero."""
        return Gated(module, n_out, n_levels)

    @classmethod
    def build(cls, spec: NetworkSpec, scaler: Scaler, table: Any) -> Autoencoder:
        """Build an autoencoder with random weights; ``table`` holds the losses of mixed columns."""
        generator = torch.Generator().manual_seed(spec.seed)
        n, n_features = spec.n_components, spec.n_features
        loss = mixed_loss(table.parts) if table.parts else LOSSES[spec.parameters["loss"]]
        noise, sparsity = float(spec.parameters["noise"]), float(spec.parameters["sparsity"])
        encoder = spec.build_encoder(n, generator, cls)
        imputer = Imputer(n_features, n_imputation_components(n, n_features), spec.is_masked)
        decoder = spec.build_decoder(n_features, generator, cls)
        refined = loss.projects and not (noise or sparsity or spec.is_random)
        parts = encoder, decoder, spec.levels, scaler, imputer
        return cls(*parts, loss, cls.step_choices[-1] if refined else 0, noise, sparsity, spec.is_ordered)

    def encode(self, x: Tensor) -> Tensor:
        """Encode scaled samples to codes of all components."""
        z = self.imputer(self.encoder, x)
        if self.training or not (self.n_refinements or len(self.landmarks)):
            return z
        return self._refined(self.imputer.fill(x), z)

    @torch.no_grad()
    def _refined(self, x: Tensor, z: Tensor) -> Tensor:
        """Return codes that reconstruct complete samples better."""
        decoder, weights, shape = self.differentiable_outputs(), self._level_weights(), (len(self.levels), *x.shape)

        def error(z: Tensor) -> tuple[Tensor, Callable[[], Tensor]]:
            samples, back = decoder(z)
            rest = samples.reshape(shape) - x
            weighted = weights.unsqueeze(-1) * rest
            return (weighted * rest).sum((0, 2)), lambda: back((2 * weighted).reshape(samples.shape))

        if len(self.landmarks):
            other, explained = self.landmarks(x, self._squared_errors, self.n_components)
            is_nearer = weights.sum() * x.double().square().sum(1) - explained < error(z)[0]
            z = torch.where(is_nearer.unsqueeze(1), other, z)
        n_steps = self.n_refinements
        return descend(error, lambda slope: slope @ self.step_scaling, z, n_steps, lambda error: WORTHWHILE * error)

    def begin_steps(self) -> None:
        """Scale steps by the curvature at the start: with one level, a step of size 1 is PCA's projection."""
        start = self.decoder.get_buffer("start_weight").reshape(len(self.levels), -1, self.n_components)
        curvature = (self._level_weights() * start.square().sum(1)).sum(0)
        self.step_scaling.copy_(torch.where(curvature > 0, 0.5 / curvature, 0).diag())

    @torch.no_grad()
    def scale_steps(self, codes: Tensor) -> None:
        """Scale steps by the mean of (J'J + C)^-1 over these codes (n, n_components), where C is the mean of J'J.

        J are the decoder's derivatives at a code, by finite differences. If they are not finite, or take too much
        memory, the scaling stays. With a linear decoder a step of size 1 goes half of the way.
        """
        n, k = max(_LEAST_SCALED, _MOST_SCALED // self.n_components), self.n_components
        codes = codes[: min(n, evaluation_batch_size(len(self.scaler.mean) * len(self.levels)) // (k + 1))]
        if len(codes) < 2:
            return
        shift = _SHIFT * codes.std(0, correction=0)
        shift = torch.where(shift > 0, shift, 1)
        around = torch.cat([codes[None], codes + shift.diag().unsqueeze(1)])
        eta = self.outputs(around.flatten(0, 1), self.sizes).reshape(len(self.levels), *around.shape[:2], -1)
        slopes = (eta[:, 1:] - eta[:, :1]) * (self._level_weights().sqrt()[..., None, None] / shift[:, None, None])
        curvature = torch.einsum("lkni,ljni->nkj", slopes, slopes)
        if curvature.isfinite().all():
            curvature = curvature + curvature.mean(0)
            unit = curvature.mean(0).diagonal()
            unit = torch.where(unit > 0, unit.rsqrt(), 0)  # components of small variance count as much as others
            units = unit[:, None] * unit
            self.step_scaling.copy_(0.5 * units * torch.linalg.pinv(units * curvature, hermitian=True).mean(0))

    def _level_weights(self) -> Tensor:
        """Return the weight of each level's error in the projection, (n_levels, 1)."""
        return self.size_weights[self.sizes - 1]

    def _squared_errors(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Return slopes and offsets of minus the squared errors of samples x, without the term of x alone."""
        samples = self.outputs(codes, self.sizes).double().reshape(len(self.levels), len(codes), -1)
        weighted = self._level_weights().unsqueeze(-1) * samples
        return 2 * weighted.sum(0), -(weighted * samples).sum((0, 2))

    def encode_landmarks(self, x: Tensor) -> Tensor:
        return self.encode(x)

    def as_good(self, loss: float) -> float:
        return (1 + _AS_GOOD) * loss

    def codes(self, x: Tensor, n_components: int) -> Tensor:
        return self.encode(x)[:, :n_components]

    def inverse_link(self, eta: Tensor, n_components: int) -> Tensor:
        return self.loss.inverse_link(eta)

    def reconstructions(self, outputs: Sequence[Tensor]) -> Tensor:
        eta = outputs[1]
        return self.loss.inverse_link(eta if eta.ndim == 2 else eta[-1])

    def decoded_size(self, n_components: int) -> int:
        return int(self.decoded[n_components - 1])

    def forward(self, x: Tensor) -> ReconstructionOutput:
        z = self.encode(x)
        is_cut = self.training and len(self.levels) > 1
        sizes = self._next_sizes(len(z)) if is_cut else self.sizes
        weight = self.size_weights[sizes - 1].unsqueeze(-1) if self.is_ordered else None
        return ReconstructionOutput(z, self.outputs(z, sizes), weight)

    def _next_sizes(self, n_samples: int) -> Tensor:
        """Return the sizes of the next samples in training, which come in random order: (n_levels, n_samples)."""
        counts = self.n_seen + torch.arange(n_samples, device=self.n_seen.device)
        self.n_seen += n_samples
        return self.training_sizes(counts)

    @property
    def n_evaluated(self) -> int:
        """Number of codes that an evaluation decodes for each sample."""
        return len(self.levels)

    @property
    def input_noise(self) -> Tensor | None:  # type: ignore[override]
        return self.noise * self.scaler.spread if self.noise else None

    def objective(self) -> ReconstructionObjective:
        """Return the training objective."""
        varies = (~self.scaler.constant).float() if self.scaler.constant.any() else None
        return ReconstructionObjective(self.loss, self.sparsity, varies)

    def loss_in_units(self, loss: float, observed: Any) -> float:
        """Convert a loss of scaled samples to units of X; with ordered components it is relative, without a unit."""
        return loss if self.is_ordered else self.scaler.unit**self.loss.degree * loss

    @torch.no_grad()
    def start(self, fit: Any, rows: Any, complete: Any, random_state: Any, *, trains: bool) -> LinearGaussian:
        """Start at PCA, or keep the random weights; return the model that imputes.

        Parameters
        ----------
        fit : callable (X, n_components, random_state) -> PCAStart, or None
            None keeps the random weights.
        rows : RowSource
            Training samples in units of X; not used.
        complete : ArrayRows or SparseComplete
            Complete scaled samples, (n, n_features).
        random_state : RandomState
        trains : bool
            Not used.
        """
        if fit is None:
            self.code_scaler.scale.fill_(self.scaler.unit)
            return self.mean_imputation()
        X = complete.unweighted()
        start = fit(X, self.n_components, random_state)
        scale, centre = self.scaler.output_map
        units = [
            self._units(start if level == self.n_components else leading(start, X, level)) for level in self.levels
        ]
        spread, code, output = units[-1][0], torch.empty(0), torch.stack([unit[2] for unit in units]).squeeze(0)
        for _, unit, _ in units:  # each code has the unit of the first level that has it
            code = torch.cat([code, unit[len(code) :]])
        weight = torch.from_numpy(start.decoder) * scale.reshape(-1, 1)
        if len(self.levels) > 1:
            kept = torch.arange(self.n_components) < torch.tensor(self.levels)[:, None]
            weight = kept[:, None] * weight
        if self.is_ordered:
            self.size_weights.copy_(self._weights_of_sizes(start, X))
        low_high = torch.from_numpy(complete.column_range())
        self._start_encoder(low_high, torch.from_numpy(start.encoder), None, spread, code)
        input_range = torch.from_numpy(complete.range_along(start.encoder))
        self.decoder.start_at(weight, centre, unit=output * scale, input_range=input_range)  # type: ignore[operator]
        self.begin_steps()
        self.code_scaler.scale.copy_(torch.from_numpy(start.code_scale) * self.scaler.unit)
        return start.as_imputation_model(self.scaler.spread.numpy())

    def _weights_of_sizes(self, start: PCAStart, X: Any) -> Tensor:
        """Return weights that make PCA's loss the same for each size: small sizes would otherwise dominate."""
        total = torch.as_tensor(sum_of_squares(X) / (len(X) - 1))
        if total == 0:
            return torch.ones(self.n_components)
        left = total - torch.from_numpy(start.decoder).square().sum(0).cumsum(0)
        return (X.shape[1] / left.clamp_min(_LEAST_LEFT * float(total))) ** (self.loss.degree / 2)

    def _units(self, start: PCAStart) -> tuple[Tensor, Tensor, Tensor]:
        """Return units of the encoder's inputs, of codes and of the decoder's outputs, from the residuals of PCA.

        If the residuals are small, a step that is small relative to the data is large relative to the error. With noise
        or sparsity all units are 1, since training then has to change more than the residuals.
        """
        residual, code_scale = torch.from_numpy(start.residual), torch.from_numpy(start.code_scale)
        if self.noise or self.sparsity:
            return torch.ones(len(residual)), torch.ones(len(code_scale)), torch.ones(len(residual))
        typical = max(float(residual.square().mean().sqrt()), _SMALLEST_UNIT)
        code = (typical * len(residual) ** 0.5 / code_scale).clamp_max(1)
        return self.scaler.spread.clamp_min(typical), code, residual.clamp_min(1e-4 * typical)
