"""The variational autoencoder, of one size of codes or of several at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache, cached_property, partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from skae._torch import has_missing
from skae.data.parameters import is_by_column
from skae.data.statistics import column_moments
from skae.linear.gaussian import LinearGaussian, log_density_given_others
from skae.linear.missing import n_imputation_components, pca_imputation
from skae.linear.pca import probabilistic_pca
from skae.networks.constant import ConstantColumns
from skae.networks.corrected import CorrectedLinear
from skae.networks.halves import NetworkSpec
from skae.networks.imputation import Imputer
from skae.networks.layers import Differentiable, Headed, differentiable, linear_at_levels
from skae.networks.model import Model, Pace, derivatives
from skae.networks.preprocessing import NewColumns, Scaler
from skae.networks.refinement import WORTHWHILE, descend, sign_draws
from skae.objectives import (
    LIKELIHOODS,
    ColumnMoments,
    DefensiveMixture,
    DefensiveStart,
    Likelihood,
    LinearBaselines,
    NegativeELBO,
    VAEOutput,
    elbo,
    gaussian_kl,
    mixed_likelihood,
)

# A faster refinement is as good if its validation loss is larger by at most this, in nats.
_AS_GOOD = 0.01

# Largest noise variance of a start in units of scaled columns, which float32 holds: probabilistic PCA in units of X has
# the same noise for all columns, however small.
_LARGEST_NOISE = 1e30

_sign_draws = cache(sign_draws)


def is_conjugate(likelihood: Any) -> bool:
    """Return whether this value of ``likelihood`` names one whose posterior has a formula if the decoder is linear."""
    return not is_by_column(likelihood, LIKELIHOODS) and LIKELIHOODS[likelihood].is_conjugate


class Posterior(NamedTuple):
    """The normal q(z | x): ``mean`` and ``log_var``, both (n, n_components)."""

    mean: Tensor
    log_var: Tensor

    def draw(self, noise: Tensor) -> Tensor:
        """Return the codes of these standard normal draws."""
        return self.mean + (self.log_var / 2).exp() * noise


class VAE(Model):
    r"""q(z | x) = N(mean, diag exp(log_var)), p(x | z) = likelihood(decoder(z)), p(z) = N(0, I), at each level.

    With several levels, all sizes of codes use the leading components of the q of one encoder. Each size has its own
    likelihood, since a smaller code leaves more noise. It also has its own q, since with more noise the posterior is
    nearer to the prior: ``shrinking`` multiplies the means and ``widening`` is added to the log-variances. Every fourth
    step of training cuts the codes of each level to a size between it and the level below.

    Parameters
    ----------
    likelihoods : sequence of Likelihood
        Likelihoods of each size from 1 to n_components or, with one level, of n_components alone.
    defensive : sequence of DefensiveMixture, default=()
        Defensive mixtures of each level; a size between levels uses that of the level below. Empty for none.
    beta : float, default=1.0
        Weight of the KL term in training.
    is_ordered, is_stratified : bool, default=False
        Whether the components are ordered, and whether the validation set is stratified by `misfit`.
    encoder, decoder, levels, scaler, imputer, n_refinements, n_context
        As for `Model`; the encoder returns means, then log-variances.

    Shape
    -----
    codes: (n, n_features + n_context) -> (n, n_components), the posterior mean of the largest size; decode: (n, any
    size up to that + n_context) -> (n, n_out).
    """

    # Steps from the encoder's posterior, or a landmark's, towards the best one for each sample.
    step_choices = (0, 1, 2, 4)
    steps_in_training = 2
    narrow_widths = (128, 64)

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        levels: tuple[int, ...],
        scaler: Scaler,
        imputer: Imputer,
        likelihoods: Sequence[Likelihood],
        n_refinements: int = 0,
        defensive: Sequence[DefensiveMixture] = (),
        n_context: int = 0,
        beta: float = 1.0,
        is_ordered: bool = False,
        is_stratified: bool = False,
    ) -> None:
        super().__init__(encoder, decoder, levels, scaler, imputer, n_refinements, n_context, code_width=2)
        self.beta, self.is_ordered, self.is_stratified = beta, is_ordered, is_stratified
        self.likelihoods = nn.ModuleList(likelihoods)
        self.defensive = nn.ModuleList(defensive)
        self.constant = nn.ModuleList(ConstantColumns(len(scaler.mean)) for _ in likelihoods)
        n, n_sizes = self.n_components, len(likelihoods)
        self.sizes_modelled = range(n - n_sizes + 1, n + 1)
        self.shrinking = nn.Parameter(torch.ones(n_sizes, n), requires_grad=n_sizes > 1)
        self.widening = nn.Parameter(torch.zeros(n_sizes, n), requires_grad=n_sizes > 1)
        self.n_steps_seen = 0  # in training
        self.draw_decoder: nn.Module | None = None  # set by `prepare`

    @classmethod
    def scaler_of(cls, n_features: int, links: str | tuple[str, ...], is_raw: bool) -> Scaler:
        """Return the scaler of samples with these links: each column has its own scale."""
        return Scaler(n_features, links, per_column=True, is_raw=is_raw)

    @classmethod
    def at_most(cls, n_components: int, shape: tuple[int, int]) -> int:
        """Return ``n_components``, or less than samples and columns, so that some variance is left to noise."""
        return max(1, min(n_components, *(n - 1 for n in shape)))

    @classmethod
    def pace(cls, spec: NetworkSpec) -> Pace:
        """Return the schedule of training: with several levels fewer epochs, since these take longer."""
        if spec.is_ordered:  # with fewer epochs small sizes lose a nat on images, unlike autoencoders
            return Pace(rate=6e-3, epochs=0.3, passes=200)
        if spec.is_random or spec.parameters["feature_shape"] or not is_conjugate(spec.parameters["likelihood"]):
            return Pace(passes=200)
        is_narrow = max(spec.parameters["hidden_layer_sizes"], default=0) <= cls.narrow_widths[0]
        return Pace(6, 256, rate=1.2e-2 if is_narrow else 8e-3, squares_decay=0.95, passes=150)

    @classmethod
    def is_plain(cls, parameters: Mapping[str, Any]) -> bool:
        """Return whether the network is plain with the "gaussian" likelihood, for which narrow widths were chosen."""
        return super().is_plain(parameters) and parameters["likelihood"] == "gaussian"

    takes_any_width = True

    @staticmethod
    def wrap_own(module: nn.Module, width: int, n_out: int, n_levels: int, generator: torch.Generator) -> nn.Module:
        """Return a user's module with a linear head for each level."""
        return Headed(module, linear_at_levels([width] * n_levels, width, n_out, generator))

    @classmethod
    def build(cls, spec: NetworkSpec, scaler: Scaler, table: Any) -> VAE:
        """Build a VAE with random weights; ``table`` holds the likelihoods of mixed columns."""
        generator, beta = torch.Generator().manual_seed(spec.seed), float(spec.parameters["beta"])

        def likelihood() -> Likelihood:
            if table.parts:
                return mixed_likelihood(table.parts)
            return LIKELIHOODS[spec.parameters["likelihood"]](spec.n_features)

        n, n_columns, one = spec.n_components, spec.n_features + spec.n_context, likelihood()
        encoder = spec.build_encoder(2 * n, generator, cls)
        imputer = Imputer(n_columns, n_imputation_components(n, n_columns), spec.is_masked)
        decoder = spec.build_decoder(one.n_outputs, generator, cls)
        is_bound = not spec.is_random and beta == 1
        return cls(
            encoder,
            decoder,
            spec.levels,
            scaler,
            imputer,
            [likelihood() for _ in range(n if len(spec.levels) > 1 else 1)],
            cls.step_choices[-1] if is_bound and one.is_conjugate else 0,
            [one.defensive(level, spec.n_context) for level in spec.levels] if is_bound else [],
            spec.n_context,
            beta,
            spec.is_ordered,
            is_stratified=one.is_conjugate and not spec.is_random,
        )

    @classmethod
    def least_weights(cls, spec: NetworkSpec) -> int:
        return super().least_weights(spec) + (spec.n_components**2 if spec.is_ordered else 0)

    def hold_out(self, n_samples: int) -> None:
        """Set the share of the defensive mixture by the rule of succession.

        A network that fits n samples well is expected to fail on one sample in n + 2.
        """
        for defensive in self.defensive:
            defensive.get_buffer("share").fill_(1 / (n_samples + 2))

    def prepare(self) -> None:
        super().prepare()
        # Draws are decoded in float32, since the rounding averages out in the bound; codes are computed in float64.
        if isinstance(self.decoder, CorrectedLinear):
            self.draw_decoder = self.decoder.trained_part_in_float32()

    def unpenalised(self) -> Sequence[nn.Parameter]:
        return [self.shrinking, self.widening]

    @property
    def evaluation_draws(self) -> Tensor:  # type: ignore[override]
        return _sign_draws(self.n_components)

    @property
    def n_evaluated(self) -> int:
        """Number of codes that an evaluation decodes for each sample."""
        return len(self.evaluation_draws)

    def at(self, size: int, *, is_refined: bool = True) -> SizedVAE:
        """Return the model for codes of this size; ``is_refined=False`` skips the refinement of q."""
        return SizedVAE(self, size, is_refined)

    def as_good(self, loss: float) -> float:
        return loss + _AS_GOOD

    def guess(self, x: Tensor) -> Posterior:
        """Return the encoder's q, from which those of all sizes are computed.

        In eval mode it is the prior for samples without any value.
        """
        q = Posterior(*self.imputer(self.encoder, x).chunk(2, dim=-1))
        if self.training or not has_missing(x):
            return q
        is_known = ~(x[:, : x.shape[1] - self.n_context].isnan() | self.scaler.constant)
        is_empty = is_known.sum(1, keepdim=True) == 0
        return Posterior(*(torch.where(is_empty, 0, part) for part in q))

    def codes(self, x: Tensor, n_components: int) -> Tensor:
        return self.at(self.n_components).with_refined_mean(x).mean[:, :n_components]

    def moments(self, X: Tensor, n_components: int, context: Tensor) -> Tensor:
        """Return means and variances of the codes of samples in units of X, in float64: (n, 2 n_components)."""
        q = self.at(self.n_components).posterior(self.inputs(X, context).to(self._dtype))  # whose means are the codes
        parts = q.mean.double(), q.log_var.double().exp()
        return torch.cat([part[:, :n_components] for part in parts], dim=1)

    def given_others(self, X: Tensor, n_components: int, context: Tensor) -> Tensor:
        """Return the log-density of each value given the others of its sample, in units of X: (n, n_features)."""
        model = self.at(n_components)
        found = model.given_others(self.inputs(X, context)) - self.scaler.log_units
        found = found.nan_to_num(nan=-torch.inf, neginf=-torch.inf)  # the arithmetic overflows far from the data
        found = torch.where(model.likelihood.varies > 0, found, model.constant.by_column(X))
        return found.masked_fill(X.isnan(), torch.nan)

    def inverse_link(self, eta: Tensor, n_components: int) -> Tensor:
        return self.at(n_components).likelihood.mean(eta)

    def reconstructions(self, outputs: Sequence[Tensor]) -> Tensor:
        return self.inverse_link(outputs[3], self.n_components).mean(0)  # eta of the largest level

    def with_context(self, z: Tensor, x: Tensor) -> Tensor:
        """Append the context of samples x to their codes (..., n, k)."""
        if not self.n_context:
            return z
        return torch.cat([z, x[:, -self.n_context :].expand(*z.shape[:-1], -1)], dim=-1)

    def forward(self, x: Tensor, noise: Tensor) -> tuple[VAEOutput, ...]:
        """Return the output of each level, the largest first.

        ``noise`` (n_draws, n or 1, n_components) holds standard normal draws: one in training. In eval mode a level
        uses its own draws if these are fewer.
        """
        if self.training:
            return self._training_outputs(x, noise)
        models = map(self.at, reversed(self.levels))
        return tuple(m(x, min(noise[..., : m.size], m.draws.to(x), key=len)) for m in models)

    def _training_outputs(self, x: Tensor, noise: Tensor) -> tuple[VAEOutput, ...]:
        q = self.guess(x)
        numbers = self.training_sizes(torch.tensor([self.n_steps_seen]))
        sizes = numbers.to(x.device, non_blocking=True)
        self.n_steps_seen += 1
        means, log_vars = q.mean[None], q.log_var[None]
        if len(self.levels) > 1:
            means, log_vars = q.mean * self.shrinking[sizes - 1], q.log_var + self.widening[sizes - 1]
        z = Posterior(means, log_vars).draw(noise)
        etas = self.outputs(self.with_context(z, x), sizes)
        context = x[:, -self.n_context :] if self.n_context else None
        parts = zip(numbers.flatten().tolist(), means, log_vars, z, etas, strict=True)
        outputs = [
            VAEOutput(mean[:, :m], log_var[:, :m], z[None, :, :m], eta[None], context)
            for m, mean, log_var, z, eta in parts
        ]
        return tuple(reversed(outputs))

    def objective(self) -> NegativeELBO:
        """Return the training objective."""
        defensive = [self.at(size).defensive for size in self.sizes_modelled]
        return NegativeELBO(list(self.likelihoods), self.beta, [d for d in defensive if d is not None])

    def loss_in_units(self, loss: float, observed: Any) -> float:
        """Convert a loss of scaled samples to units of X; ``observed`` is the observed share of each column."""
        offset = torch.stack([self.at(level).constant.offset for level in self.levels]).mean(0)
        return loss + float((torch.as_tensor(observed).to(offset) * (self.scaler.log_units + offset)).sum())

    def get_extra_state(self) -> int:
        return self.n_steps_seen

    def set_extra_state(self, state: int) -> None:
        self.n_steps_seen = state

    # Starts.

    @torch.no_grad()
    def _start_likelihoods(self, starts: Sequence[LinearGaussian] | None, n_samples: float) -> None:
        """Start each size's likelihood at the noise of its linear model or, without one, at the columns' variance."""
        value, spread, scale = self.scaler.mean, self.scaler.spread, self.scaler.scale
        variance = torch.where(spread > 0, spread.square(), 1.0)
        parts: Any = zip(self.likelihoods, self.constant, strict=True)
        for k, (likelihood, constant) in enumerate(parts):
            noise = variance if starts is None else torch.from_numpy(starts[k].noise).clamp(max=_LARGEST_NOISE)
            likelihood.varies.copy_(spread > 0)
            likelihood.start_at(noise, variance, scale)
            of_constants = None
            if starts and starts[k].has_constant_noise and (spread > 0).any():
                of_constants = (noise * scale.square())[spread > 0].amin().expand_as(noise)  # equal, but for the floor
            density = likelihood.of_constants(value, spread * scale, n_samples, of_constants)
            constant.start_at(spread <= 0, value, *density)

    @torch.no_grad()
    def start(self, fit: Any, rows: Any, complete: Any, random_state: Any, *, trains: bool) -> LinearGaussian:
        """Start at a linear model, or keep the random weights; return the model that imputes columns and context.

        Parameters
        ----------
        fit : callable (X, scale, n_components, random_state, *, ordered, trains) -> LinearGaussian, or None
            None keeps the random weights.
        rows : RowSource
            Training samples in units of X.
        complete : ArrayRows or SparseComplete
            Complete scaled samples and their context, (n, n_features + n_context).
        random_state : RandomState
        trains : bool
            Whether training follows; only then is the defensive mixture used.
        """
        if fit is None:
            self._start_likelihoods(None, rows.n_effective)
            imputing = pca_imputation(complete, 0, None) if self.n_context else self.mean_imputation()
        else:
            X, means = complete.without_context_means(len(self.scaler.mean))
            scale = self.scaler.scale.numpy()
            model = fit(X, scale, self.n_components, random_state, ordered=self.is_ordered, trains=trains)
            start = LinearStart(model, X, complete, means, random_state)
            imputing = self._start_at(start, rows.n_effective)
            if trains:
                self._start_defensive(start, rows)
        for likelihood in self.likelihoods:
            likelihood.fit_sums(rows.sums)  # type: ignore[operator]
        return imputing

    def _start_defensive(self, start: LinearStart, rows: Any) -> None:
        """Fit the defensive mixtures to linear models or to independent columns."""
        varies = (self.scaler.spread > 0).double()

        @cache
        def columns() -> ColumnMoments:
            if self.scaler.is_identity:
                return ColumnMoments(torch.zeros_like(varies), torch.ones_like(varies), varies, rows.n_effective)
            mean, deviation = (torch.from_numpy(part) for part in column_moments(rows)[:2])
            return ColumnMoments(mean, deviation.square(), varies, rows.n_effective)

        common = DefensiveStart(columns, rows.sums, start.baselines())
        for defensive in self.defensive:
            defensive.start_at(common)  # type: ignore[operator]

    def _start_at(self, start: LinearStart, n_samples: float) -> LinearGaussian:
        model, n = start.model, self.n_components
        rank = model.rank(start.X)
        several = len(self.levels) > 1
        by_size = {size: model.leading(size, rank) if several else model for size in self.sizes_modelled}
        self._start_likelihoods(list(by_size.values()), n_samples)
        weight, variance = (torch.from_numpy(part) for part in model.posterior())
        bias = torch.cat([torch.zeros(n, dtype=torch.float64), variance.log()])
        shift = torch.from_numpy(start.context_means)
        if self.n_context:  # codes are of samples minus the mean of their class
            weight = torch.cat([weight, -weight @ shift.T], dim=1)
        low_high = torch.from_numpy(start.inputs.column_range())
        self._start_encoder(
            low_high, torch.cat([weight, torch.zeros_like(weight)]), bias, torch.ones(low_high.shape[1]), 1.0
        )
        for size, of_size in by_size.items() if several else ():
            ratio, gain = (torch.from_numpy(part) for part in of_size.nearer_to_prior(model))
            self.shrinking[size - 1, :size], self.widening[size - 1, :size] = ratio, gain
        self._start_decoder([torch.from_numpy(by_size[level].loadings) for level in self.levels], shift)
        if self.n_context:
            return pca_imputation(start.inputs, n, start.random_state)
        return model.as_imputation_model()

    @torch.no_grad()
    def begin_columns(self, new: NewColumns, x: Tensor, shares: Tensor) -> None:
        super().begin_columns(new, x, shares)
        parts: Any = zip(self.likelihoods, self.constant, strict=True)
        deviation = self.scaler.spread * self.scaler.scale
        for likelihood, constant in parts:
            likelihood.begin_columns(new.began, self.scaler.scale)
            noise = constant.noise if constant.offset.any() else None
            density = likelihood.of_constants(self.scaler.mean, deviation, float(shares.sum()), noise)
            constant.start_at(new.found, self.scaler.mean, *density)
            constant.forget(new.began)
        for defensive in self.defensive:
            defensive.begin_columns(new.began)  # type: ignore[operator]

    def _start_decoder(self, loadings: Sequence[Tensor], shift: Tensor) -> None:
        """Start the decoder at the loadings of each level (n_features, level), with zeros for further parameters."""
        scale, centre = self.scaler.output_map
        n_further = self.at(self.n_components).likelihood.n_outputs - len(centre)
        pad = nn.functional.pad
        padded = [torch.cat([pad(w, (0, self.n_components - w.shape[1])), shift.T], dim=1) for w in loadings]
        weight = pad(scale[:, None] * torch.stack(padded), (0, 0, 0, n_further)).squeeze(0)
        self.decoder.start_at(weight, pad(centre, (0, n_further)))  # type: ignore[operator]

    def misfit(self, x: Tensor) -> Tensor:
        """Return the misfit of scaled samples under the linear start: minus the log-density of samples and codes."""
        encoder: Any = self.encoder
        decoder: Any = self.decoder_of(self.n_components)
        (to_code, code), (to_sample, sample) = encoder.linear_map(), decoder.linear_map()
        filled = self.imputer.fill(x)
        z = (filled @ to_code[:, : x.shape[1]].T + code)[:, : self.n_components]  # without the mask's columns
        eta = self.with_context(z, x) @ to_sample.T + sample
        likelihood = self.at(self.n_components).likelihood
        return z.square().sum(1) / 2 - likelihood(eta, x[:, : len(likelihood.varies)])


class LinearStart(NamedTuple):
    """The linear start of a VAE and the samples that it was fitted to.

    Attributes
    ----------
    model : LinearGaussian
    X : ndarray or CentredSparse of shape (n_samples, n_features)
        Complete scaled samples without weights, minus the means of their context.
    inputs : ArrayRows or SparseComplete
        Complete scaled samples and their context, (n_samples, n_features + n_context).
    context_means : ndarray of shape (n_context, n_features)
    random_state : RandomState
    """

    model: LinearGaussian
    X: Any
    inputs: Any
    context_means: Any
    random_state: Any

    def baselines(self) -> Callable[[int], LinearBaselines]:
        """Return a function from a size to the linear models of its defensive mixture: start and PCA."""

        @cache
        def pca() -> LinearGaussian:
            # PCA of scaled columns: with one noise in units of X, draws of columns with a small scale would be far off.
            units = torch.ones(self.X.shape[1], dtype=torch.float64).numpy()
            return probabilistic_pca(self.X, units, self.model.loadings.shape[1], self.random_state)

        def models(size: int) -> LinearBaselines:
            largest = self.model.loadings.shape[1]
            cut = [m if size == largest else m.leading(size, m.rank(self.X)) for m in (self.model, pca())]
            _, loadings, noise = (torch.stack([*map(torch.from_numpy, part)]) for part in zip(*cut, strict=True))
            varies, shift = torch.from_numpy(self.X.any(axis=0)), torch.from_numpy(self.context_means)
            return LinearBaselines(loadings, noise, varies, shift)

        return models


class SizedVAE:
    """The model of the leading components of a `VAE`, with shared weights.

    Attributes
    ----------
    size : int
    likelihood : Likelihood
    constant : ConstantColumns
    defensive : DefensiveMixture or None
    """

    def __init__(self, vae: VAE, size: int, is_refined: bool) -> None:
        self.vae, self.size = vae, size
        self.n_refinements = vae.n_refinements if is_refined else 0
        self.uses_landmarks = is_refined and len(vae.landmarks) > 0
        self.index = size - vae.sizes_modelled[0]
        self.likelihood: Any = vae.likelihoods[self.index]
        self.constant: Any = vae.constant[self.index]

    @property
    def defensive(self) -> Any:
        """The defensive mixture of the largest level that is not above this size."""
        below = [d for level, d in zip(self.vae.levels, self.vae.defensive, strict=False) if level <= self.size]
        return below[-1] if below else None

    @property
    def n_simpler(self) -> int:
        """Number of simpler models in the defensive mixture."""
        return self.defensive.n_models if self.defensive is not None else 0

    @property
    def mixture_weight(self) -> float:
        """Weight of a Gaussian mixture of the samples in the density."""
        return self.defensive.mixture_weight if self.defensive is not None else 0.0

    def defended(self, bound: Tensor, x: Tensor, context: Tensor | None) -> Tensor:
        """Return the bound of each sample under the defensive mixture, if there is one."""
        return bound if self.defensive is None else self.defensive(bound, x, context)

    @property
    def draws(self) -> Tensor:
        """The draws that estimate the bound, (n_draws, 1, size)."""
        return _sign_draws(self.size)

    @cached_property
    def _decoder(self) -> nn.Module:
        return self.vae.decoder_of(self.size)

    @cached_property
    def _differentiable_decoder(self) -> Differentiable:
        return differentiable(self._decoder)

    @cached_property
    def _draw_decoder(self) -> nn.Module:
        decoder = self.vae.draw_decoder
        return self._decoder if decoder is None else self.vae.decoder_of(self.size, decoder)

    def leading(self, q: Posterior) -> Posterior:
        """Return this size's q from the encoder's."""
        if len(self.vae.likelihoods) == 1:
            return q
        shrinking, widening = (part[self.index, : self.size] for part in (self.vae.shrinking, self.vae.widening))
        is_prior = (q.mean.abs() + q.log_var.abs()).sum(1, keepdim=True) == 0  # without any value, that of all sizes
        log_var = q.log_var[:, : self.size] + widening
        return Posterior(q.mean[:, : self.size] * shrinking, torch.where(is_prior, 0, log_var))

    def posterior(self, x: Tensor) -> Posterior:
        """Return q(z | x), in eval mode with a refined mean, and with other variances where values are missing.

        The encoder's variances hardly depend on which values are missing.
        """
        q = self.with_refined_mean(x)
        if self.vae.training or not self.n_refinements or not has_missing(self._samples(x)):
            return q
        is_incomplete = self._samples(x).isnan().any(1)
        log_var, part = q.log_var.clone(), Posterior(*(part[is_incomplete] for part in q))
        log_var[is_incomplete] = self._local_log_var(part, x[is_incomplete])
        return q._replace(log_var=log_var)

    def with_refined_mean(self, x: Tensor) -> Posterior:
        """Return q, in eval mode the best landmark's if it is better, with a refined mean.

        Gradient steps raise the log-density at the mean minus the KL term (Kim et al. 2018, arXiv:1802.02550). The
        variances of q are the inverse curvature that scales the steps. If the decoder is linear and q is the posterior,
        they do not change it.
        """
        q = self.leading(self.vae.guess(x))
        if self.vae.training or not (self.n_refinements or self.uses_landmarks):
            return q

        def cost(mean: Tensor, log_var: Tensor) -> tuple[Tensor, Callable[[], Tensor]]:
            log_density, gradient = self._log_density(mean[None], x)
            return gaussian_kl(mean, log_var).sum(1) - log_density[0], lambda: mean - gradient()[0]

        if self.uses_landmarks:
            other, explained = self._best_landmark(x)
            of_other = cost(*other)[0] if has_missing(self._samples(x)) else -explained  # which is of imputed samples
            is_better = (of_other < cost(*q)[0].nan_to_num(nan=torch.inf)).unsqueeze(1)
            q = Posterior(*(torch.where(is_better, new, old) for new, old in zip(other, q, strict=True)))

        def worthwhile(cost: Tensor) -> Tensor:
            rounding = 16 * torch.finfo(cost.dtype).eps * cost.abs()
            return rounding.clamp_min(WORTHWHILE)

        objective = partial(cost, log_var=q.log_var)
        variance = q.log_var.exp()
        return q._replace(mean=descend(objective, variance.mul, q.mean, self.n_refinements, worthwhile))

    def _local_log_var(self, q: Posterior, x: Tensor) -> Tensor:
        """Return log-variances from the curvature of the log-density at draws from q, where they raise the bound.

        For a linear decoder with constant noise they are the best ones (Opper and Archambeau 2009).
        """
        draws = self.draws.to(x)
        log_density, gradient = self._log_density(q.draw(draws), x)
        curvature = -(gradient() * draws).mean(0) * (-0.5 * q.log_var).exp()
        other = q._replace(log_var=-curvature.clamp_min(0).log1p())
        is_better = elbo(self._log_density(other.draw(draws), x)[0], *other) > elbo(log_density, *q)
        return torch.where(is_better.unsqueeze(1), other.log_var, q.log_var)

    def _samples(self, x: Tensor) -> Tensor:
        """Return samples without their context."""
        return x[:, : x.shape[1] - self.vae.n_context]

    def _log_density(self, z: Tensor, x: Tensor) -> tuple[Tensor, Callable[[], Tensor]]:
        """Return the log-density of samples given codes z (n_draws, n, size), and a function for its gradient by z."""
        padded = nn.functional.pad(z, (0, self.vae.n_components - self.size))
        eta, back = self._differentiable_decoder(self.vae.with_context(padded, x).flatten(0, 1))
        with torch.enable_grad():
            eta = eta.requires_grad_()
            found = self.likelihood(eta.unflatten(0, z.shape[:2]), self._samples(x))
            total = found.sum()

        def gradient() -> Tensor:
            (of_eta,) = torch.autograd.grad(total, eta)
            return back(of_eta).unflatten(0, z.shape[:2])[..., : self.size]

        return found.detach(), gradient

    def _best_landmark(self, x: Tensor) -> tuple[Posterior, Tensor]:
        """Return the q of each sample's best landmark, and minus its `cost` if no value is missing."""

        def terms(codes: Tensor) -> tuple[Tensor, Tensor]:
            q = self.leading(Posterior(*codes.chunk(2, dim=-1)))
            slopes, offsets = self.likelihood.natural(self.vae.decode(q.mean, self._decoder))
            return slopes, offsets - gaussian_kl(*q).sum(1)

        statistics = self.likelihood.statistics(self.vae.imputer.fill(x))
        codes, explained = self.vae.landmarks(statistics, terms, self.size)
        return self.leading(Posterior(*codes.chunk(2, dim=-1))), explained

    def __call__(self, x: Tensor, noise: Tensor) -> VAEOutput:
        """Return the output for standard normal draws ``noise`` (n_draws, n or 1, size)."""
        q = self.posterior(x)
        z = q.draw(noise)
        context = x[:, -self.vae.n_context :] if self.vae.n_context else None
        at_mean = self.vae.decode(self.vae.with_context(q.mean, x), self._decoder)
        return VAEOutput(q.mean, q.log_var, z, self._decode_draws(self.vae.with_context(z, x)), context, at_mean)

    def given_others(self, x: Tensor) -> Tensor:
        """Return the log-density of each value given the others of its sample, nan where it is missing or constant.

        The decoder is replaced by its tangent at the mean of the posterior, so that samples are normal.

        Shape
        -----
        (n, n_features + n_context) -> (n, n_features), for a likelihood that ``is_conjugate``.
        """
        z = self.with_refined_mean(x).mean

        def mean(z: Tensor) -> Tensor:
            return self.likelihood.mean(self.vae.decode(self.vae.with_context(z, x)))

        slopes = derivatives(mean, z)
        tangent_at_0 = mean(z) - torch.einsum("nk,nkd->nd", z, slopes)
        noise = self.likelihood.variance(self.vae.decode(self.vae.with_context(z, x)))
        rest = torch.where(self.likelihood.varies > 0, x[:, : noise.shape[1]] - tangent_at_0, torch.nan)
        return log_density_given_others(rest, slopes.mT, noise)

    def _decode_draws(self, z: Tensor) -> Tensor:
        return self.vae.decode(z.flatten(0, 1), self._draw_decoder).reshape(*z.shape[:2], -1)
