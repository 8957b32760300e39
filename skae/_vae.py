"""The variational autoencoder as a scikit-learn density estimator."""

import copy
import math
import warnings
from functools import partial

import numpy as np
import torch
from sklearn.base import DensityMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted, check_random_state

from skae._base import BaseNetTransformer
from skae._fitted import MAX_SIZED, Fitted, check_codes
from skae._torch import evaluation_batch_size, like_input, no_gradients, tensor_of, to_array
from skae.data import parameters as check
from skae.data.checks import SUPPORTS, check_weights, weighted_mean
from skae.data.columns import OF_LIKELIHOODS
from skae.data.tables import ArrayTable, TableEncoder
from skae.linear.mixture import MAX_CODES
from skae.linear.starts import VAE_STARTS
from skae.networks.refinement import fixed_draws
from skae.networks.resampling import draw_missing
from skae.networks.sample_mixture import (
    add_mixture,
    bounds,
    may_have_mixture,
    mixture_of,
    most_samples,
    restore_mixture,
)
from skae.networks.vae import VAE, Posterior, is_conjugate
from skae.objectives import LIKELIHOODS, PRIORS, MixturePrior, elbo, gaussian_kl
from skae.persistence import state as stored

# Draws per sample in scores, or two per component if that is more: the estimated bound has an error of up to 0.05 nats.
_SCORE_DRAWS = 32
# Values of the parameter ``defensive``.
_DEFENSIVE = "mixture", "linear"
# Draws of codes that impute missing values.
_IMPUTATION_DRAWS = 100
# Samples that are drawn at once given some of their values, and draws of codes from each of three proposals for these.
_GIVEN_DRAWS = 1000
# A component is active if its mean KL divergence from the prior exceeds this, in nats.
_ACTIVE = 0.01


class FittedVAE(Fitted):
    """A fitted VAE: densities, new samples, imputation, and statistics of the codes of training samples."""

    # ``prior`` is used in scores and samples; ``_codes`` are the mean and log-variance of q for training samples, if
    # components are ordered: (2, n, all components).
    prior, _codes, _contexts = PRIORS["normal"](), None, None

    # Densities.

    @no_gradients()
    def elbo(self, rows, y=None):
        """Return the ELBO of each sample, (n,), conditional on its class unless y is None."""
        return self._densities(rows, self._score_draws(), self._bound, y)

    def _score_draws(self):
        return fixed_draws(max(_SCORE_DRAWS, 2 * self.n_components), self.n_components)

    def _bound(self, likelihood, output, x, noise):
        return elbo(likelihood(output.eta, x) + self.prior.gain(output.z), output.mean, output.log_var)

    @no_gradients()
    def log_likelihood(self, rows, n_draws, y=None):
        """Return the importance-weighted bound of each sample, (n,), conditional on its class unless y is None."""

        def bound(likelihood, output, x, noise):
            return self._log_weights(likelihood, output, x, noise).logsumexp(0) - math.log(len(noise))

        return self._densities(rows, self._normal_draws(n_draws), bound, y)

    def _normal_draws(self, n_draws):
        """Return standard normal draws (n_draws, 1, n_components), the same at every call."""
        generator = torch.Generator().manual_seed(0)
        return torch.randn((n_draws, 1, self.n_components), generator=generator, dtype=torch.float64)

    def _log_weights(self, likelihood, output, x, noise):
        """Return log p(x, z) - log q(z | x) of each draw: (n_draws, n)."""
        log_ratio = 0.5 * (noise.square() + output.log_var - output.z.square()).sum(-1)  # log p(z) - log q(z | x)
        return likelihood(output.eta, x) + log_ratio + self.prior.gain(output.z)

    def _densities(self, rows, draws, bound, y=None):
        """Return ``bound`` of each sample in units of X, (n,): conditional on its class, or marginal if y is None."""
        groups = self.context.groups(y, len(rows))
        if groups is None:
            return self.context.marginalise(partial(self._densities_given, rows, draws, bound))
        densities = np.empty(len(rows), rows.dtype)
        for index, value in groups:
            densities[index] = self._densities_given(rows[index], draws, bound, value)
        return densities

    def _densities_given(self, rows, draws, bound, value):
        """Return ``bound`` of samples that share a context, in units of X: (n,)."""
        value = torch.from_numpy(value)

        def densities(module, x):
            inputs, targets = self._inputs(module, x, value)
            model, noise = module.at(self.n_components), draws.to(inputs)
            output = model(inputs, noise)
            found = bound(model.likelihood, output, targets, noise)
            found = model.defended(found, targets, output.context)
            # A sample so far from the data that the arithmetic overflows has density zero.
            found = found.nan_to_num(nan=-math.inf, neginf=-math.inf)
            slopes = torch.from_numpy(self.table.log_slopes(x).sum(axis=1)).to(x.device)
            jacobian = (~x.isnan()).double() @ module.scaler.log_units - slopes
            return (found - jacobian + model.constant(x))[:, None]

        # Blocks are larger than elsewhere: with many draws a small block holds few samples, and each call has a cost.
        times = max(len(draws) // 2, self.model.at(self.n_components).n_simpler)
        return to_array(self.map(rows, densities, 1, width=times * self.built.n_features)[:, 0])

    @no_gradients()
    def feature_scores(self, rows):
        """Return the log-density of each value given the others of its sample, averaged over contexts."""
        n, n_columns = self.n_components, self.built.n_features
        at_once = max(self.net.width, n * n_columns)
        scores = self.map_given(rows, lambda m, x, value: m.given_others(x, n, value), n_columns, width=at_once)
        return self._expected(rows, scores)

    def _expected(self, rows, of_context):
        """Average a function of the value over the posterior of each sample's context."""
        density = partial(self._densities_given, rows, self._score_draws(), self._bound)
        return self.context.expected(of_context, density)

    def _inputs(self, module, x, value):
        """Return the network's input, samples with their context, and the likelihood's targets."""
        inputs = module.inputs(x, value)
        return inputs, inputs[:, : x.shape[1]] if module.scaler.is_identity else x

    # Codes.

    @no_gradients()
    def encode(self, rows):
        return self._expected(rows, partial(self.encode_given, rows))

    @no_gradients()
    def encode_with_std(self, rows):
        """Return the means and standard deviations of q, of a conditional model mixed over the classes."""
        n, first = self.n_components, []
        posterior = self.map_given(rows, lambda m, x, value: m.moments(x, n, value), 2 * n, torch.float64)

        def moments(value):
            mean, variance = np.split(to_array(posterior(value)), 2, axis=1)
            first.append(mean)
            return np.hstack([mean, variance + (mean - first[0]) ** 2])  # squares of the means themselves may be large

        mean, square = np.split(self._expected(rows, moments), 2, axis=1)
        return mean.astype(rows.dtype), np.sqrt(np.maximum(square - (mean - first[0]) ** 2, 0)).astype(rows.dtype)

    # Draws.

    @no_gradients()
    def sample(self, n_samples, y, noise, seed):
        """Draw samples (n_samples, n_features), of the classes y unless None; without noise, return decoded codes."""
        generator, random_state = torch.Generator().manual_seed(seed), np.random.RandomState(seed)
        codes = self.prior.sample(n_samples, self.n_components, generator, random_state).numpy()
        context = self.context.draw(y, n_samples, random_state)
        if not noise:
            return self.decode_given(codes, context)
        n = self.n_components

        def draw(module, z):
            codes, context = z.cpu().split([n, z.shape[1] - n], 1)
            model = module.at(n)
            eta = module.decode(z).cpu()
            rows = copy.deepcopy(model.likelihood).cpu().draw(eta, generator)
            if (simpler := copy.deepcopy(model.defensive)) is not None:
                simpler = simpler.cpu()
                left = torch.rand(len(rows), generator=generator, dtype=torch.float32) < simpler.share
                # The defensive models take standard normal codes, which may have fewer components.
                normal = torch.randn(codes.shape, generator=generator, dtype=torch.float64)
                normal = normal[left, : simpler.n_components]
                rows[left] = simpler.draw(normal, generator, context[left] if context.shape[1] else None)
            return module.scaler.inverse(rows.to(self.net.device))

        return self.map(np.hstack([codes, context]), draw, self.built.n_features)

    @no_gradients()
    def sample_given(self, row, n_samples, seed):
        """Draw the missing values of an encoded sample (n_features,) given the others: (n_samples, n_features)."""
        generator, module = torch.Generator().manual_seed(seed), self.net.inference_module(torch.float64)
        x = tensor_of(row[None]).to(self.net.device)
        drawn = [self._drawn_given(module, x, generator) for _ in range(0, n_samples, _GIVEN_DRAWS)]
        drawn = torch.cat(drawn)[:n_samples].to(self.net.device)
        return module.scaler.inverse(drawn).where(x.isnan(), x).numpy(force=True)

    def _drawn_given(self, module, x, generator):
        """Draw 1,000 scaled samples whose observed values are those of x."""
        samples = [self._inputs(module, x, torch.from_numpy(value)) for value in self.context.values]
        model, prior_gain = module.at(self.n_components), self.prior.gain
        return draw_missing(model, samples, self.context.log_weights, prior_gain, _GIVEN_DRAWS, generator)

    @no_gradients()
    def fill_by_network(self, X, generator=None):
        """Impute missing values of a tensor by conditional means or, with a generator, by draws on the host."""
        draws = self._normal_draws(_IMPUTATION_DRAWS)
        if generator is not None:
            draws = torch.randn(draws.shape, generator=generator, dtype=torch.float64)

        def fill(module, x):
            model, etas, log_weights = module.at(self.n_components), [], []
            place = x.device if generator is None else generator.device
            likelihood = copy.deepcopy(model.likelihood).to(place)
            for value, log_weight in zip(self.context.values, self.context.log_weights, strict=True):
                inputs, targets = self._inputs(module, x, torch.from_numpy(value))
                noise = draws.to(inputs)
                output = model(inputs, noise)
                log_weights.append(self._log_weights(model.likelihood, output, targets, noise).to(place) + log_weight)
                etas.append(output.eta.to(place))
            weights, eta, seen = torch.cat(log_weights).softmax(0), torch.cat(etas), targets.to(place)
            if generator is None:
                filled = torch.einsum("sn,snd->nd", weights.to(eta), likelihood.mean_of_missing(eta, seen))
            else:
                drawn = weights.T.multinomial(1, generator=generator)[:, 0]
                filled = likelihood.draw_missing(eta[drawn, torch.arange(len(x))], seen, generator)
            return torch.where(x.isnan(), module.scaler.inverse(filled.to(x.device)), x)

        return self.map(X, fill, X.shape[1], width=len(draws) * len(self.context.values) * X.shape[1])

    # Statistics of training samples.

    def settle(self, estimator, training, held_out, best, before):
        training = training.unweighted()
        if estimator.n_components == "auto":
            self._choose_size(training if held_out is None else held_out.unweighted())
        if best is None:  # partial_fit leaves the prior as it is
            self.prior = self.prior if before is None else before.prior
        else:
            may_be_added = estimator.defensive == "mixture" and estimator.max_iter and may_have_mixture(self.model)
            if may_be_added and held_out is not None:
                self._add_mixture(training, held_out.unweighted())
            is_start = (estimator.early_stopping or self.net.outcome_ == "diverged") and best.loss == best.start_loss
            if estimator.max_iter and len(self.net.history) and not is_start:
                self.prior = self._fit_prior(PRIORS[estimator.prior](), training)
        width = 4 * self.built.n_features  # values per sample: in float64, with mean and variance
        self._describe(self._guesses(self._drawn_inputs(training, width)))
        if self.built.is_ordered:  # `truncated` needs them
            guesses, inputs = zip(*self._guesses(self._drawn_inputs(training, width)), strict=True)
            self._codes = torch.cat(guesses, dim=1).numpy(force=True)
            self._contexts = torch.cat(inputs)[:, self.built.n_features :].numpy(force=True)

    def _choose_size(self, samples):
        """Keep the fewest components whose bound is within one standard error of the best."""
        bounds = self._bounds_by_size(samples)
        short = bounds[:, [bounds.mean(axis=0).argmax()]] - bounds
        within = short.mean(axis=0) <= short.std(axis=0) / np.sqrt(len(short))
        self.n_components = int(within.argmax()) + 1

    def _bounds_by_size(self, samples):
        """Return bounds of at most 1,000 samples with codes cut to each size, q not refined: (n, n_sizes)."""
        drawn = np.random.RandomState(self.built.seed).permutation(len(samples))[:MAX_SIZED]
        inputs, targets = (part.double() for part in samples[torch.from_numpy(drawn).to(self.net.device)])
        objective, vae, at_once = self.model.objective().eval(), self.model, evaluation_batch_size(self.net.width)
        by_size = [bounds(objective, vae.at(n, is_refined=False), inputs, targets, at_once) for n in vae.sizes_modelled]
        return torch.stack(by_size, dim=1).numpy(force=True)

    def _add_mixture(self, training, held_out):
        """Add a Gaussian mixture of these samples, of at most 20,000 from each part, to the defensive mixtures."""
        objective, width, most = self.model.objective().eval(), self.net.width, most_samples(self.built.n_features)
        parts = (zip(*self._drawn(samples, width, most), strict=True) for samples in (training, held_out))
        parts = [[torch.cat(blocks) for blocks in part] for part in parts]
        add_mixture(self.model.eval(), objective, *parts, evaluation_batch_size(width), self.built.seed)

    def _drawn(self, samples, width, most=MAX_CODES):
        """Return batches of at most ``most`` samples; each sample takes the memory of ``width`` values."""
        generator = torch.Generator().manual_seed(self.built.seed)
        drawn = torch.randperm(len(samples), generator=generator)[:most].to(self.net.device)
        return (samples[part][:2] for part in drawn.split(evaluation_batch_size(width)))

    def _drawn_inputs(self, samples, width):
        """Return batches of the inputs of at most 5,000 samples."""
        return (x for x, _ in self._drawn(samples, width))

    def _guesses(self, batches):
        """Yield the encoder's means and log-variances of each batch, (2, n, all components), and the batch."""
        module = self.net.inference_module(torch.float64)
        for x in batches:
            with torch.no_grad():
                yield torch.stack(module.guess(x.double())), x.double()

    def _describe(self, guesses):
        """Compute the mean KL divergence of these q from the prior, and the mean noise variance at their means."""
        vae, n, kl, noise = self.net.inference_module(torch.float64), 0, 0.0, 0.0
        model = vae.at(self.n_components)
        for guess, x in guesses:
            with torch.no_grad():
                q = model.leading(Posterior(*guess))
                n, kl = n + len(q.mean), kl + gaussian_kl(*q).sum(0)
                if model.likelihood.is_conjugate:
                    noise = noise + model.likelihood.variance(vae.decode(vae.with_context(q.mean, x))).sum(0)
        self.kl = (kl / n).numpy(force=True)
        self.noise = (noise / n).numpy(force=True) if model.likelihood.is_conjugate else None

    def _fit_prior(self, prior, training):
        """Return the prior; one that is learned is fitted to a draw from the refined q of each training sample."""
        model = self.net.inference_module(torch.float64).at(self.n_components)
        batches = self._drawn_inputs(training, self.net.width) if prior.is_learned else ()
        with torch.no_grad():
            posteriors = [model.posterior(x.double()) for x in batches]
        return self._prior_of(prior, posteriors)

    def _prior_of(self, prior, posteriors):
        generator = torch.Generator().manual_seed(self.built.seed)
        noise = [torch.randn(q.mean.shape, generator=generator, dtype=torch.float64) for q in posteriors]
        codes = [q.draw(draws.to(q.mean)) for q, draws in zip(posteriors, noise, strict=True)]
        return prior.fit(torch.cat(codes), self.built.seed) if codes else prior

    def attributes(self):
        scaler, attributes = self.model.scaler, super().attributes()
        attributes |= {"prior_": self.prior.density, "kl_per_component_": self.kl}
        attributes["active_components_"] = self.kl > _ACTIVE
        attributes["mixture_weight_"] = self.model.at(self.n_components).mixture_weight
        if self.noise is not None:
            variance = self.noise * scaler.scale.numpy(force=True) ** 2
            constants = self.model.at(self.n_components).constant.noise.numpy(force=True)
            attributes["noise_variance_"] = np.where(scaler.spread.numpy(force=True) > 0, variance, constants)
        return attributes

    def truncated(self, n_components):
        other = super().truncated(n_components)
        codes, contexts = (tensor_of(part).to(self.net.device) for part in (self._codes, self._contexts))
        at_once = evaluation_batch_size(self.net.width)
        other._describe(zip(codes.split(at_once, dim=1), contexts.split(at_once), strict=True))
        model = self.net.inference_module(torch.float64).at(n_components)
        with torch.no_grad():
            other.prior = self._prior_of(self.prior, [model.leading(Posterior(*codes))])
        return other

    # Files.

    def to_state(self):
        names = {kind: name for name, kind in PRIORS.items()}
        of_codes = {"codes": self._codes, "contexts": self._contexts}
        of_density = {"prior": names[type(self.prior)], "mixture": mixture_of(self.model)._asdict()}
        return super().to_state() | of_codes | of_density | {"noise": self.noise}

    def restore(self, kept, state):
        super().restore(kept, state)
        width = self.built.n_components
        n = stored.check_integer(state, "n_components_", 1, width)
        stored.check_one_of(kept, "prior", list(PRIORS))
        prior, density = PRIORS[kept["prior"]], stored.get(state, "prior_")
        if not prior.is_learned:
            stored.check_one_of(state, "prior_", [None])
        elif issubclass(prior, MixturePrior):
            stored.check_mixture(density, n)
        self.prior = prior.restore(density)
        n_columns = self.built.n_features, self.built.n_context
        restore_mixture(self.model, stored.check_linear_mixture(kept, "mixture", *n_columns))
        stored.check_array(state, "kl_per_component_", (n,))
        stored.check_array(state, "active_components_", (n,), bool)
        self.kl, self.noise = state["kl_per_component_"], stored.get(kept, "noise")
        self._codes, self._contexts = stored.get(kept, "codes"), stored.get(kept, "contexts")
        if self.model.at(n).likelihood.is_conjugate:
            stored.check_array(state, "noise_variance_", (self.built.n_features,), low=0)
            stored.check_array(kept, "noise", (self.built.n_features,), low=0)
        else:
            stored.check_one_of(kept, "noise", [None])
        if self.built.is_ordered:
            n_codes = stored.length_of(kept, "codes", 1)
            stored.check_array(kept, "codes", (2, n_codes, width))
            stored.check_array(kept, "contexts", (n_codes, self.built.n_context))
        else:
            stored.check_one_of(kept, "codes", [None])
            stored.check_one_of(kept, "contexts", [None])


class VAEGenerator(DensityMixin, BaseNetTransformer):
    r"""Nonlinear factor analysis: a variational autoencoder that starts as factor analysis and can be sampled.

    To generate a sample, the model draws a code from a standard normal, decodes it and adds noise. The network starts
    as a linear model of this form, factor analysis or probabilistic PCA, for which its bound on the log-density is
    exact. It is then trained with early stopping on a validation set.

    Parameters
    ----------
    n_components : int or "auto", default=2
        Latent dimension.

        - int: at least 1, and at most the number of samples. If it exceeds the number of columns, at most 1,000.
        - "auto": the fewest components whose mean ELBO on the validation set (without one, on the training samples) is
          within one standard error of the best. This is the standard error of the paired differences. `fit` tries up to
          as many components as PCA needs for 99 % of the variance of the standardised columns: at most 64, and fewer
          than columns. It implies ``ordered=True``.

    likelihood : str or mapping of columns to str, default="gaussian"
        Density of an entry given the code.

        - "gaussian": a mean and a noise variance, which both depend on the code. In the linear start only the mean
          does.
        - "isotropic_gaussian": a mean, and one noise variance for all columns in units of X. With ``start="pca"`` the
          reconstruction error is nearly an autoencoder's; the density is lower than with "gaussian".
        - "bernoulli": for X in [0, 1]. Scores are log-probabilities only if X consists of zeros and ones. The input
          of the network is the logit of X.
        - "poisson", "negative_binomial": for counts. The input of the network is their logarithm. "negative_binomial"
          has a dispersion for each column, for counts whose variance is above their mean.
        - "multinomial": for counts conditional on their sum in a sample, such as word counts of documents. New samples
          take their sums from training samples.
        - "categorical": for categories.
        - "auto": by the dtype of each column. Floats get "gaussian", bools "bernoulli", categories and strings
          "categorical". Integers get "negative_binomial" if it describes them well, else "bernoulli" if they are 0 and
          1, else "gaussian".
        - mapping: the likelihoods of some columns, by name or, for an array, by index. The other columns use "auto".

        "categorical", "auto" and a mapping accept DataFrames of pandas and polars, see Notes.

    handle_unknown : {"error", "ignore"}, default="error"
        What to do with a category that is not in the training samples: raise an error or treat it as missing. Only for
        DataFrames with text or categories.

    start : {"factor_analysis", "pca", "random"}, default="factor_analysis"
        Weights before training. With other likelihoods than Gaussian ones the linear model is fitted to logits or
        logarithms of X, and the bound of the start is then not exact.

        - "factor_analysis": scikit-learn's `FactorAnalysis`, run to convergence. Probabilistic PCA replaces it above
          200 columns, where EM would take long, and with no more samples than columns, where it would overfit. With at
          most 1,000 samples, five-fold cross-validation chooses between the two, unless ``max_iter=0``. With ordered
          components it is probabilistic PCA of standardised columns, since factors have no order. It then has fewer
          components than columns and a noise variance of at least 1e-4.
        - "pca": probabilistic PCA, whose density is `PCA.score`'s.
        - "random": random weights. Own modules then get X unscaled.

    ordered : bool, default=False
        Whether the components are ordered by importance: the first m columns of a code are the code of a model of m
        components, for every m, see `truncate`. Training maximises the mean bound of 1, 2, 4, ... and n_components
        components. Each size has its own decoder, and all share the encoder. Since each epoch takes longer, training
        runs for three tenths of ``max_iter``. Needs a linear start. An own ``decoder`` is
        shared by all sizes and gets codes whose last columns are zero.

    beta : float, default=1.0
        Weight of the KL term in training. Scores always use 1.

    conditional : bool, default=False
        Whether to model the samples conditional on their class, p(x | y), with the classes that `fit` gets as ``y``.
        `sample` can then draw from a class. Codes have the same prior in all classes, and encode the variation within a
        class.

    prior : {"normal", "mixture"}, default="normal"
        Density of codes in scores and samples. Training always uses the standard normal.

        - "normal": the standard normal.
        - "mixture": a Gaussian mixture fitted to codes of training samples after training. It has 1 to 64 components
          with full covariances, at most one for ``n_components`` samples; 0.001 to 0.1 is added to their variances.
          Both are chosen by the likelihood of a held-out fifth of the codes. It helps if samples form clusters, which a
          standard normal merges. No effect with ``max_iter=0``.

    defensive : {"mixture", "linear"}, default="mixture"
        Simpler densities that are mixed with the network's in scores and new samples, see Notes. They have no effect on
        codes and reconstructions, with one exception: in a conditional model without y, a code is a mean over classes,
        and their densities are its weights.

        - "mixture": a Gaussian mixture of the samples, with a weight chosen on the validation set, and the linear
          models. Only for Gaussian likelihoods, or "auto" if all columns are then Gaussian, and up to 100 columns that
          vary; else as "linear".
        - "linear": the linear start and probabilistic PCA, with weight 1 / (n + 2) for a validation set of n samples.
          With other likelihoods a model of independent columns replaces these two.

    hidden_layer_sizes : "auto" or sequence of int, default="auto"
        Number of units of each hidden layer of the encoder; the decoder has them in reverse. At most 200 layers.

        - "auto": (128, 64) for fewer than 5,000 samples with "gaussian", unless components are ordered, the
          start is random or one half is your own; else (256, 128). With ``feature_shape`` it is (128, 256).
        - (): no hidden layer. The network is then linear within the range of the training samples.

        With ``feature_shape`` these layers lie between the convolutions and the code. Ignored for a half that is passed
        as ``encoder`` or ``decoder``.

    activation : {"silu", "gelu", "relu", "tanh", "elu", "logistic", "identity"}, default="silu"
        Activation after each hidden layer.

    alpha : float, default=0.0
        L2 penalty on the weights of the nonlinear path, see Notes. The linear path and biases have no penalty.

    encoder, decoder : callable (n_in, n_out) -> torch.nn.Module, default=None
        Builds a module that computes features of samples or of codes, of any width. skae adds the linear layer that
        maps them to mean and variance of the code, or to the likelihood's parameters.

        - Linear start: the module gets scaled samples, clipped to the range of the training samples, or codes. Its
          output is added to the linear path, starting at zero.
        - ``start="random"``: the encoder gets X unscaled.

    feature_shape : tuple of int, default=None
        Channels, height and width of samples that are flattened images, such as (1, 28, 28). Height and width must be
        at least 8. The network is then convolutional; an own ``encoder`` or ``decoder`` replaces its half. Gradients
        are clipped to four times the running mean of their norm, unless components are ordered.

    batch_size : "auto" or int, default="auto"
        Number of samples in a training step. "auto" is a power of two.

        - It is about a twelfth of all samples, from 32 to 128.
        - With a Gaussian likelihood it is about a sixth, from 32 to 256, unless components are ordered, samples are
          images or the start is random.
        - Above 20,000 samples the upper limit of 128 or 256 grows by the factor sqrt(n_samples / 20,000).

    learning_rate_init : "auto" or float, default="auto"
        Peak learning rate of Adam's one-cycle schedule in `fit`, and the constant learning rate of `partial_fit`.
        "auto" is 3e-3 in `partial_fit`. In `fit` it is the first of these that applies.

        - 6e-3 with ordered components;
        - 3e-3 for images, a random start and other likelihoods than a Gaussian one;
        - 8e-3 with a layer of more than 128 units, else 1.2e-2.

    max_iter : "auto" or int, default="auto"
        Maximum number of epochs; with ordered components three tenths of it are run. "auto" is 150 with a Gaussian
        likelihood, and 200 with others, for images and with a random start or ordered components. Above 20,000 samples
        it is this number divided by sqrt(n_samples / 20,000). 0 leaves the network at its start: the linear model.

    early_stopping : bool, default=True
        Whether to keep the weights with the lowest validation loss and to stop when it no longer improves. With a
        linear start, validation uses a running average of the weights over epochs. If False, the last weights are kept,
        training ends when the training loss stalls, and the linear start is never restored.

        Real-valued columns have a learned variance, which can raise the density while their mean gets worse. So weights
        are rejected if their mean squared error on these columns exceeds that of the start by more than 0.01. The error
        is measured on the validation set, with columns scaled to variance 1.

    validation_fraction : "auto" or float, default="auto"
        Share of the samples of X in the validation set, if `fit` gets no ``X_val``. "auto" is a tenth, at most 1,000
        samples. With a Gaussian likelihood they are stratified by how well the linear start fits each sample; otherwise
        they are a random subset. The linear start is fitted to all samples.

    n_iter_no_change : int, default=20
        Number of epochs without an improvement of more than ``tol`` after which training ends; with ordered components
        at least half of all epochs.

    tol : float, default=1e-4
        Smallest improvement that counts, relative to the best loss.

    checkpoint : str or path-like, default=None
        Folder to which `fit` saves its state: when training ends, and at the end of an epoch if ten seconds have passed
        since the last save. With the same folder, data and parameters, `fit` resumes from there and has the same
        result. A finished fit is restored. Other data or parameters raise an error. Each fit needs its own folder.
        `partial_fit` does not use it.

    callbacks : skorch callback or list of these, default=None
        Cloned if they can be copied, then notified of skorch's events. A pair (name, callback) makes the callback's
        settings parameters: ``callbacks__name__setting``. A `skorch.callbacks.LRScheduler` replaces the one-cycle
        schedule. At the end of an epoch callbacks see the weights that were validated. With a linear start and a
        validation set these are the running average; training continues from the weights that were averaged.

    device : "auto", str or torch.device, default="auto"
        Where to compute.

        - "auto": cuda if available, else the cpu.
        - "accelerate": the device that Accelerate assigns to this process. All processes of its launcher share one fit.
          Needs the package accelerate.

    verbose : int, default=0
        Show a progress bar on stderr if not 0; joblib's workers show none. skorch's callbacks print only then. If each
        column has its own likelihood, the likelihoods are printed, too.

    random_state : int, RandomState instance or None, default=None
        Source of the validation set, the order of samples, initial weights and draws of codes in training. An int gives
        the same fit each time. `sample` has its own ``random_state``.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The classes, sorted. Only with ``conditional=True``.

    class_count_ : ndarray of shape (n_classes,)
        Number of training samples of each class, or the sum of their weights. Only with ``conditional=True``.

    class_prior_ : ndarray of shape (n_classes,)
        The share of each class among the training samples. Only with ``conditional=True``.

    n_components_ : int
        Latent dimension; with "auto" the number that was chosen.

    components_ : ndarray of shape (n_components_, n_features_in_)
        The decoder's linear path: the change of a sample per unit of each component, in units of X (after the logit or
        logarithm, if the likelihood has one). At ``max_iter=0`` these are the loadings. Absent if an own decoder is the
        whole decoder. If each column has its own likelihood, there is an entry for each encoded column, in the order of
        X. A "gaussian" column is encoded by its map to a normal distribution, a "categorical" one by a column for each
        category.

    prior_ : GaussianMixture or None
        The density of codes with ``prior="mixture"``, if held-out codes have a higher likelihood under it than under
        the standard normal and training has changed the network; else None. `truncate` refits it to codes from the
        encoder's q, without refinement. `partial_fit` does not change it.

    noise_variance_ : ndarray of shape (n_features_in_,)
        Noise variance of each column, in units of X squared: the mean over codes of at most 5,000 training samples. For
        constant columns it is the noise variance of probabilistic PCA with ``start="pca"``, else zero. Only for
        Gaussian likelihoods.

    kl_per_component_ : ndarray of shape (n_components_,)
        KL divergence of the encoder's posterior of each component from the standard normal, in nats: the mean over at
        most 5,000 training samples.

    active_components_ : ndarray of shape (n_components_,)
        Whether each component is active: its KL is above 0.01 nats.

    mixture_weight_ : float
        Weight of the Gaussian mixture of the samples in scores and new samples, see ``defensive``. 0 without one.

    mean_ : ndarray of shape (n_features_in_,)
        Mean of the training samples; if each column has its own likelihood, mean of the encoded columns.

    net_ : skorch.NeuralNet
        The network, with skorch's ``module_`` and ``history``.

    likelihoods_ : dict
        Likelihood of each column, by name. Only if each column has its own likelihood.

    n_iter_ : int
        Number of epochs run.

    loss_curve_ : list of float
        Training loss of each epoch: the mean negative ELBO of a sample (with ``beta``), in nats, in units of X. With
        ordered components it is the mean over sizes.

    validation_loss_curve_ : list of float or None
        Validation loss of each epoch, with the defensive mixture; None without early stopping and after `partial_fit`.
        Every third epoch is validated, and the others repeat the last loss. With callbacks, fewer than 18 epochs or a
        random start, each epoch is validated.

    best_loss_ : float or None
        Validation loss of the fitted network, see Notes; without early stopping, the lowest training loss. None after
        `partial_fit`.

    linear_loss_ : float or None
        Loss of the linear start, with the defensive mixture, on the same samples. None with ``start="random"`` and
        after `partial_fit`.

    n_features_in_ : int
        Number of columns of X.

    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns. Only if X had column names that are all strings.

    See Also
    --------
    AutoencoderTransformer : Codes and reconstructions without a density.
    sklearn.decomposition.FactorAnalysis : The linear start.

    Notes
    -----
    **Network.** Encoder and decoder are each the sum of a linear path, in which training starts, and a nonlinear path,
    which is zero at first. The initial weights and biases of the first layer of the nonlinear path are 1.7
    times torch's.

    **Bound.** The evidence lower bound [1]_ of a sample is

    .. math:: \mathrm{ELBO}(x) = E_{q(z|x)}[\log p(x|z)] - \mathrm{KL}(q(z|x) \,\|\, N(0, I)) \le \log p(x)

    In scores the expectation is a mean over 32 draws, or two for each component if that is more. They are the same for
    all samples, and have mean zero and identity covariance. The mean is therefore exact for linear models, where the
    bound equals :math:`\log p(x)` [2]_. Validation losses use fewer draws, with entries -1 and 1: 2 for one component,
    4 for two, 8 for up to 8, 16 for up to 16, and so on.

    **Refinement.** The encoder's q is a first estimate. With a linear start, the Gaussian likelihood and ``beta=1``,
    its mean is refined in codes, scores and validation. Landmarks are the q of up to 512 training samples. If one of
    them explains the sample better, refinement starts there. Up to four gradient steps then raise the log-density of
    the sample at the mean, minus the KL term [3]_. The variances of q scale the steps, and are not refined. If there
    are steps, those of samples with missing values are computed anew from the curvature of the log-density [10]_, where
    this raises the bound.

    At the end of a fit the validation set chooses the number of steps and whether there are landmarks: the fastest
    choice whose loss is within 0.01 nats of the lowest. Without a validation set, in conditional models, or if training
    has not improved on the start, there are four steps and no landmarks. During training the validation loss uses two
    steps, four in conditional models, and up to 128 landmarks. So ``best_loss_`` differs from
    ``validation_loss_curve_``, and may be less than all its values.

    **Prior.** With ``prior="mixture"``, p(z) is the mixture. In scores,
    :math:`E_{q(z|x)}[\log p(z) - \log q(z|x)]` over the same draws then replaces minus the KL. Scores are still lower
    bounds, since any q gives one. The mixture is fitted to one draw from q for each of at most 5,000 training samples
    [5]_. Losses, the choice of weights and codes use the standard normal.

    **Defensive mixture.** No network fits every sample. With a validation set of n samples, scores and new samples are
    therefore those of a defensive mixture [4]_. The linear models have weight 1 / (n + 2) in it, half for the start and
    half for probabilistic PCA of standardised columns. By the rule of succession, this is how often a network that fits
    n samples well is expected to fail. The score of a sample is then at most log(2 (n + 2)) nats below its score under
    either linear model. With other likelihoods, the weight goes to a model of independent columns, which ignores the
    class and missing values: each column has its mean, and a negative binomial or normal one its variance. The score is
    then at most log(n + 2) nats below that of this model. The mixture needs a linear start and ``beta=1``, and the
    weight is zero at ``max_iter=0``. Codes and reconstructions are the network's.

    **Mixture of the samples.** With ``defensive="mixture"`` and Gaussian columns, a Gaussian mixture of the samples is
    also part of that mixture. It has 1 to 64 components, up to 128 on few columns, with full covariances, for each
    class if the model is conditional. There are at least as many samples for a component as columns, as its covariance
    would be singular with fewer. In the fit 0.001 is added to the variances of scaled columns, and up to 0.1 after it.
    This value and the number of components are those with the highest likelihood of the validation set. The weight w of
    the mixture is (1 + s) / (n + 2), where s is the expected number of validation samples from it. It maximises
    the likelihood of the validation set and of two more samples, one from either part [9]_. Then the mixture is fitted
    to both training and validation samples, at most 5,000 of each, on few columns 20,000, with draws in place of
    missing values. The bound of a sample is at most log(1 / (1 - w)) nats below that without the mixture. It is added
    after training: losses, and the choice of weights and of ``n_components``, are without it. There is none if a
    validation sample is further than 100,000 standard deviations from the mean of a column.

    **Ordered components.** There is a model of each size. Those of 1, 2, 4, ... and n_components components start as
    probabilistic PCA of that size; a size between them starts with the loadings of the next larger one. Each model
    takes the leading components of the shared q and refines them by its own bound. Codes are the first columns of those
    of the largest size [6]_.

    **Missing values** are left out of the bound, which is then a bound on the log-density of the observed values [7]_.
    Before the encoder they are replaced by their conditional means under a Gaussian model of all columns,
    estimated by EM from the observed values. If training samples had missing values, the encoder also gets the mask of
    missing values, and the start is fitted to samples whose missing values are drawn from that model. Without missing
    values in training, the start itself is the model.

    **Scales and noise variances.** Each column is centred and divided by its standard deviation for the network;
    densities are in units of X. Noise variances have lower bounds, since the density of duplicated columns would
    otherwise be unbounded. In the start they are at least 1e-6 of the column's variance ("pca": 1e-12; otherwise, with
    ordered components, 1e-4). Training keeps them above 1e-4 of the column's variance, or above half their start if
    that is less. A code multiplies or divides a variance by at most e^3, about 20.

    **Constant columns.** Columns that are constant in training, and those observed only once, are reconstructed and
    sampled as constants. (Own modules with a random start reconstruct them themselves.) They are independent of the
    other columns. What they add to a score depends on the likelihood:

    - Gaussian and ``start="pca"``: a normal log-density with the noise variance of probabilistic PCA, so that `score`
      is `PCA.score` at ``max_iter=0``.
    - Gaussian and another start: 0 at the constant c, and :math:`-(x - c)^2 / 2 s^2` at another value x. The unit s
      is a hundredth of \|c\| or of the smallest standard deviation of another column, whichever is less, but at least
      1e-7 \|c\|. If c is 0 it is a hundredth of that deviation, or 1/100 if no other column varies. In mixed tables s
      is between \|c\| / 200 and \|c\| / 100, or 1/100 if c is 0.
    - "multinomial": nothing, since the shares of all columns are in its density.
    - other likelihoods: 0 at the constant, and -log(n + 2) at another value, with n training samples. By the rule of
      succession this is the log-probability of a value that was never seen.

    `partial_fit` learns a constant column of numbers from the first batch in which it varies.

    **Classes.** With ``conditional=True`` encoder and decoder, also own modules, get the one-hot encoded class as
    further columns of their input [8]_. The linear start is fitted to samples minus the mean of their class. If y is
    None, the class is marginalised out: the density of a sample is :math:`\sum_y p(y) p(x|y)`, with the bounds in place
    of p(x|y). The terms of this sum also weight the classes in the sample's code and imputed values. The linear models
    of the defensive mixture are shifted by the class means as well.

    **A likelihood for each column.** With ``likelihood`` "auto", "categorical" or a mapping, a "gaussian" column is
    first mapped to a normal distribution. The map is increasing and piecewise linear, with at most 32 pieces: it takes
    quantiles of the training samples to those of a normal, and is extrapolated linearly. Densities include its slope,
    and so stay in units of X; at a knot the slope is the one on the right. The inverse map returns frequent values
    exactly: one that at least a fiftieth of the samples have stands for all normal scores between its quantiles.
    Returned samples have the columns, dtypes and categories of the training samples, and stay in their range. Columns
    whose training values are all whole get whole numbers, even if their dtype is float. A missing value is missing in
    all columns that encode it; `impute` returns the most probable category. A score adds log-probabilities of bools,
    counts and categories to log-densities. q is not refined.

    References
    ----------
    .. [1] Kingma, D. P. and Welling, M. (2014). Auto-encoding variational Bayes. arXiv:1312.6114

    .. [2] Lucas, J., Tucker, G., Grosse, R. and Norouzi, M. (2019). Don't blame the ELBO! A linear VAE perspective on
       posterior collapse. arXiv:1911.02469

    .. [3] Kim, Y., Wiseman, S., Miller, A., Sontag, D. and Rush, A. (2018). Semi-amortized variational autoencoders.
       arXiv:1802.02550

    .. [4] Hesterberg, T. (1995). Weighted average importance sampling and defensive mixture distributions.
       Technometrics, 37(2), 185-194.

    .. [5] Ghosh, P., Sajjadi, M. S. M., Vergari, A., Black, M. and Schoelkopf, B. (2020). From variational to
       deterministic autoencoders. arXiv:1903.12436

    .. [6] Rippel, O., Gelbart, M. A. and Adams, R. P. (2014). Learning ordered representations with nested dropout.
       arXiv:1402.0915

    .. [7] Mattei, P.-A. and Frellsen, J. (2019). MIWAE: deep generative modelling and imputation of incomplete data
       sets. arXiv:1812.02633

    .. [8] Sohn, K., Lee, H. and Yan, X. (2015). Learning structured output representation using deep conditional
       generative models. Advances in Neural Information Processing Systems 28.

    .. [9] Smyth, P. and Wolpert, D. (1999). Linearly combining density estimators via stacking. Machine Learning, 36,
       59-83.

    .. [10] Opper, M. and Archambeau, C. (2009). The variational Gaussian approximation revisited. Neural Computation,
       21, 786-792.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.decomposition import FactorAnalysis
    >>> from skae import VAEGenerator
    >>> X, _ = load_breast_cancer(return_X_y=True)
    >>> linear = VAEGenerator(n_components=2, max_iter=0).fit(X)
    >>> bool(linear.score(X) >= FactorAnalysis(2).fit(X).score(X))
    True
    >>> linear.sample(3, random_state=0).shape
    (3, 30)
    """

    _starts = VAE_STARTS
    _model_class = VAE
    _fitted_class = FittedVAE

    def __init__(
        self,
        n_components=2,
        *,
        likelihood="gaussian",
        handle_unknown="error",
        start="factor_analysis",
        ordered=False,
        beta=1.0,
        conditional=False,
        prior="normal",
        defensive="mixture",
        hidden_layer_sizes="auto",
        activation="silu",
        alpha=0.0,
        encoder=None,
        decoder=None,
        feature_shape=None,
        batch_size="auto",
        learning_rate_init="auto",
        max_iter="auto",
        early_stopping=True,
        validation_fraction="auto",
        n_iter_no_change=20,
        tol=1e-4,
        checkpoint=None,
        callbacks=None,
        device="auto",
        verbose=0,
        random_state=None,
    ):
        self.n_components = n_components
        self.likelihood = likelihood
        self.handle_unknown = handle_unknown
        self.start = start
        self.ordered = ordered
        self.beta = beta
        self.conditional = conditional
        self.prior = prior
        self.defensive = defensive
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.alpha = alpha
        self.encoder = encoder
        self.decoder = decoder
        self.feature_shape = feature_shape
        self.batch_size = batch_size
        self.learning_rate_init = learning_rate_init
        self.max_iter = max_iter
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.checkpoint = checkpoint
        self.callbacks = callbacks
        self.device = device
        self.verbose = verbose
        self.random_state = random_state

    def transform(self, X, *, return_std=False):
        """Encode samples as the means of their posteriors.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            Samples, in the units of the training samples.
        return_std : bool, default=False
            Whether to also return the standard deviations of the posteriors: the uncertainty of the codes.

        Returns
        -------
        codes : ndarray of shape (n_samples, n_components_)
            In float32 for float32 samples, else in float64.
        std : ndarray of shape (n_samples, n_components_)
            Only with ``return_std=True``. The model approximates the posterior by a normal density of independent
            components, whose deviations are often too small for samples with several missing values. A component on
            which the sample has no information has 1, as in the prior. In a conditional model these are the deviations
            of the mixture over classes.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from skae import VAEGenerator
        >>> X = load_iris().data
        >>> codes, std = VAEGenerator(2, max_iter=0).fit(X).transform(X, return_std=True)
        >>> bool((std < 1).all())
        True
        """
        if not check.check_flag("return_std", return_std):
            return super().transform(X)
        check_is_fitted(self)
        return tuple(like_input(part, X) for part in self._fitted.encode_with_std(self._open(X)))

    def score_samples(self, X, y=None):
        """Return the ELBO of each sample: a lower bound on its log-density, the defensive mixture included.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
        y : array-like of shape (n_samples,), default=None
            With ``conditional=True`` the classes of the samples, on which the densities are conditional; if None, the
            class is marginalised out. Otherwise ignored.

        Returns
        -------
        ndarray of shape (n_samples,)
            In nats, in units of X: comparable with `score_samples` of PCA, FactorAnalysis and GaussianMixture.

        Examples
        --------
        >>> import numpy as np
        >>> from sklearn.datasets import load_iris
        >>> from sklearn.decomposition import PCA
        >>> from skae import VAEGenerator
        >>> X = load_iris().data
        >>> model = VAEGenerator(2, start="pca", max_iter=0).fit(X)
        >>> bool(np.allclose(model.score_samples(X), PCA(2).fit(X).score_samples(X), atol=1e-3))
        True
        """
        check_is_fitted(self)
        return like_input(self._fitted.elbo(self._open(X), y), X)

    def score(self, X, y=None, sample_weight=None):
        """Return the mean ELBO of the samples, in nats a sample, in units of X.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
        y : array-like of shape (n_samples,), default=None
            As in `score_samples`.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples, at least 0; None for equal ones. Samples of weight 0 are left out.

        Returns
        -------
        float

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from skae import VAEGenerator
        >>> X = load_iris().data
        >>> print(f"{VAEGenerator(2, max_iter=0).fit(X).score(X):.2f} nats a sample")
        -2.60 nats a sample
        """
        check_is_fitted(self)
        rows, y = self._open_labelled(X, y, check_weights(sample_weight, X))
        return weighted_mean(self._fitted.elbo(rows, y), rows.weights)

    def _has_formula(self):
        """Return True if the density of a column given the others has a formula, or raise AttributeError."""
        if is_conjugate(self.likelihood):
            return True
        raise AttributeError(
            f"score_features needs likelihood='gaussian', not {self.likelihood!r}. AutoencoderTransformer has it for "
            "every loss."
        )

    @available_if(_has_formula)
    def score_features(self, X):
        """Return the log-density of each value given the others, to see which columns make a sample unusual.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_features_in_)
            In nats, in units of X; nan where a value is missing. They do not add up to `score_samples`, since each is
            conditional on the other columns. For a conditional model, the mean over classes, weighted by the
            probability of each class given the sample.

        Raises
        ------
        AttributeError
            If the likelihood is not Gaussian.

        Notes
        -----
        The decoder is replaced by its tangent at the sample's code. Samples are then normal, and the density of a value
        given the others has a closed form (Rasmussen and Williams 2006, equation 5.12). It is exact for a linear model,
        as at ``max_iter=0``. The defensive mixture is left out.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from skae import VAEGenerator
        >>> X = load_iris().data
        >>> model = VAEGenerator(2, max_iter=0).fit(X)
        >>> outlier = X[:1] + [[0, 9, 0, 0]]
        >>> int(model.score_features(outlier)[0].argmin())
        1
        """
        check_is_fitted(self)
        return like_input(self._fitted.feature_scores(self._open(X)), X)

    def log_likelihood(self, X, n_draws=100, *, y=None):
        """Return the importance-weighted bound on each sample's log-density, tighter with more draws.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
        n_draws : int, default=100
            Draws for each sample, the same for all samples and at every call.
        y : array-like of shape (n_samples,), default=None
            As in `score_samples`.

        Returns
        -------
        ndarray of shape (n_samples,)
            In nats, in units of X. In expectation over draws at least the ELBO and at most the log-density (Burda et
            al. 2016, arXiv:1509.00519).

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from skae import VAEGenerator
        >>> X = load_iris().data
        >>> model = VAEGenerator(2, max_iter=0).fit(X)  # both are exact for the linear start
        >>> print(f"{model.log_likelihood(X).mean():.2f}, {model.score(X):.2f}")
        -2.60, -2.60
        """
        check_is_fitted(self)
        rows = self._open(X)
        return like_input(self._fitted.log_likelihood(rows, check.check_integer("n_draws", n_draws, 1), y), X)

    def impute(self, X, *, n_draws=None, random_state=None):
        """Replace missing values by their conditional means under the model, or by draws.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            nan where a value is missing. A sample without values is imputed by the means of the training samples.
        n_draws : int, default=None
            Number of imputations, each with independent draws (multiple imputation). Imputed values then vary as
            observed ones do, and their spread over the imputations shows their uncertainty. None imputes once, with
            means.
        random_state : int, RandomState instance or None, default=None
            Source of the draws. An int gives the same ones each time.

        Returns
        -------
        ndarray of shape (n_samples, n_features), or DataFrame, or a list of ``n_draws`` of these
            The samples, observed values unchanged; a DataFrame of the same library if `fit` got one, with the index of
            X.

        Notes
        -----
        Codes are drawn from the encoder's q and weighted by p(x, z) / q(z | x), as in Mattei and Frellsen (2019,
        arXiv:1812.02633): 100 for each sample, without the defensive mixture. If training samples had missing values
        and the likelihood is Gaussian, means are averaged with those of the Gaussian model that replaces missing values
        before the encoder. Its weight in the average is the same for all entries. With ordered components there is a
        weight for each of 1, 2, 4, ... components. `fit` hides entries of training samples and of the validation set,
        finds the weight of least squared error on each, and takes the larger one.

        Examples
        --------
        >>> import numpy as np
        >>> from sklearn.datasets import load_iris
        >>> from skae import VAEGenerator
        >>> X = load_iris().data
        >>> X[0, 2] = np.nan  # it was 1.4
        >>> model = VAEGenerator(2, max_iter=0, random_state=0).fit(X)
        >>> print(f"{model.impute(X)[0, 2]:.1f}")
        1.5
        >>> len(model.impute(X, n_draws=5, random_state=0))
        5
        """
        check_is_fitted(self)
        rows = self._open(X)
        rows.check_imputable()
        if n_draws is None:
            return like_input(self._table.decode(self._fitted.fill(rows[:]), like=X), X)
        n_draws = check.check_integer("n_draws", n_draws, 1)
        seed = int(check_random_state(random_state).randint(2**31 - 1))
        generator = torch.Generator().manual_seed(seed)
        draw = partial(self._fitted.fill_by_network, generator=generator)
        filled = (self._fitted.filled(rows[:], draw) for _ in range(n_draws))
        return [like_input(self._table.decode(of_draw, like=X), X) for of_draw in filled]

    def sample(self, n_samples=1, *, y=None, noise=True, given=None, random_state=None):
        """Draw new samples.

        Parameters
        ----------
        n_samples : int, default=1
            Number of samples.
        y : label or array-like of shape (n_samples,), default=None
            With ``conditional=True`` the class of all samples, or of each. None draws classes with their frequencies in
            the training samples.
        noise : bool, default=True
            Whether to draw from the likelihood and the defensive mixture. If False, the decoder's means are returned.
        given : mapping of column to value, default=None
            Values of some columns, by name, or by number if the training samples had no names. The others are drawn
            from their distribution given these: ``given={"age": 40}``.
        random_state : int, RandomState instance or None, default=None
            An int gives the same samples at each call, None different ones.

        Returns
        -------
        ndarray of shape (n_samples, n_features_in_), or DataFrame
            In units of X; a DataFrame of the same library and names of columns if `fit` got one.

        Raises
        ------
        ValueError
            If ``given`` names an unknown column, has a value that the column cannot have or whose density is 0, or is
            combined with ``y`` or ``noise=False``.

        Notes
        -----
        With ``given``, 3,000 codes are drawn for each 1,000 samples from a mixture of q, the prior and a normal
        distribution between them (Hesterberg 1995). They are resampled in proportion to p(x, z) over the density of
        that mixture, where x are the given values. A sample may also come from one of the simpler densities of the
        defensive mixture, in proportion to the density of the given values under each.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from skae import VAEGenerator
        >>> X, y = load_iris(return_X_y=True)
        >>> model = VAEGenerator(2, conditional=True, max_iter=0).fit(X, y)
        >>> model.sample(3, y=[0, 1, 2], random_state=0).shape
        (3, 4)
        >>> model.sample(3, given={2: 5.1}, random_state=0)[:, 2]
        array([5.1, 5.1, 5.1])
        """
        check_is_fitted(self)
        n_samples = check.check_integer("n_samples", n_samples, 1)
        noise = check.check_flag("noise", noise)
        seed = int(check_random_state(random_state).randint(2**31 - 1))
        if given:
            if y is not None or not noise:
                raise ValueError("given works with neither y nor noise=False. Leave these out.")
            return self._table.decode(self._fitted.sample_given(self._table.given(given), n_samples, seed))
        return self._table.decode(self._fitted.sample(n_samples, y, noise, seed))

    def inverse_transform(self, X, y=None):
        """Transform codes back to the original space.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_components_)
            Codes, as returned by `transform`.
        y : label or array-like of shape (n_samples,), default=None
            With ``conditional=True`` the class of all samples, or of each; None returns the mean over classes.
            Otherwise ignored.

        Returns
        -------
        ndarray of shape (n_samples, n_features_in_), or DataFrame
            Samples in units of X; in float32 for float32 codes, else in float64. A DataFrame if `fit` got one and each
            column has its own likelihood. It has the index of X if that is a DataFrame, too.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from skae import VAEGenerator
        >>> X = load_iris().data
        >>> model = VAEGenerator(2, max_iter=0).fit(X)
        >>> model.inverse_transform(model.transform(X)).shape
        (150, 4)
        """
        check_is_fitted(self)
        codes = check_codes(self, X)
        context = self._fitted.context
        if y is None or not context.width:
            rows = self._fitted.decode(codes)
        else:
            rows = self._fitted.decode_given(codes, context.encode(y, len(codes)))
        return like_input(self._table.decode_codes(rows, X), X)

    def _check_parameters(self):
        super()._check_parameters()
        check.check_n_components(self.n_components, takes_share=False)
        self._check_kinds("likelihood", LIKELIHOODS, OF_LIKELIHOODS.columns)
        check.check_real("beta", self.beta)
        check.check_choice("prior", self.prior, PRIORS)
        check.check_choice("defensive", self.defensive, _DEFENSIVE)
        check.check_flag("conditional", self.conditional)

    def _tables(self):
        if check.is_by_column(self.likelihood, LIKELIHOODS):
            return [TableEncoder(self.likelihood, self.handle_unknown)]
        likelihood = check.known(self.likelihood, LIKELIHOODS)
        refusal = (
            f"likelihood={self.likelihood!r} takes numbers",
            "Use likelihood='auto', which chooses a likelihood for each column of a DataFrame.",
        )
        support = SUPPORTS[likelihood.support]
        return [ArrayTable("likelihood", self.likelihood, support, link=likelihood.link, refusal=refusal)]

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.required = self.conditional
        return tags

    def _warn(self, net, no_gain=False):
        if self.best_loss_ is None or self.active_components_.any() or net.outcome_ in ("diverged", "interrupted"):
            super()._warn(net, no_gain)
            return
        if self.beta > 1:
            remedy = f"Lower beta={self.beta!r}"
        elif self.start == "random":
            remedy = "Start with start='factor_analysis'"
        else:
            remedy = "The columns of X may be independent; if they are not, lower beta or pass more samples"
        warnings.warn(
            f"The posterior collapsed: no component of the code depends on the sample. {remedy}.",
            ConvergenceWarning,
            stacklevel=4,
        )
