"""A loss, a likelihood, a prior and starts of a user, registered under a name, do all that the package's own do."""

import pickle

import numpy as np
import pytest
import torch
from scipy.stats import norm
from sklearn.base import clone
from sklearn.decomposition import PCA
from skops import io
from skorch.callbacks import Callback
from torch.distributions import Laplace as Reference

from skae import AutoencoderTransformer, VAEGenerator
from skae.linear.gaussian import LinearGaussian
from skae.linear.pca import pca_start
from skae.linear.starts import AUTOENCODER_STARTS, VAE_STARTS
from skae.objectives import (
    LIKELIHOODS,
    LOSSES,
    PRIORS,
    Likelihood,
    Loss,
    Prior,
    register_likelihood,
    register_loss,
    register_prior,
)

pytestmark = [
    pytest.mark.usefixtures("narrow_networks", "rough_estimates", "registered"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]


def log_cosh(eta, x, reduction="none"):
    entries = torch.nn.functional.softplus(2 * (eta - x)) - (eta - x) - torch.tensor(2.0).log()
    return entries.mean() if reduction == "mean" else entries


class Laplace(Likelihood):
    """Laplace with a learned scale for each column."""

    def __init__(self, n_features):
        super().__init__(n_features)
        self.log_scale = torch.nn.Parameter(torch.zeros(n_features))

    @torch.no_grad()
    def start_at(self, noise, variance, scale):
        self.log_scale.copy_((noise.clamp_min(1e-4 * variance) / 2).log() / 2)

    def log_prob(self, eta, x):
        return -(x - eta).abs() / self.log_scale.exp() - self.log_scale - torch.tensor(2.0).log()

    def mean(self, eta):
        return eta

    def draw(self, eta, generator):
        sign = 2 * torch.bernoulli(torch.full_like(eta, 0.5), generator=generator) - 1
        return eta + sign * self.log_scale.exp() * torch.empty_like(eta).exponential_(generator=generator)


class LaplacePrior(Prior):
    """Independent Laplace components, as wide as codes are: ``density`` is their scales."""

    is_learned = True

    def fit(self, codes, seed):
        return LaplacePrior(codes.abs().mean(0).numpy(force=True))

    def log_prob(self, z):
        return Reference(0.0, torch.from_numpy(self.density).to(z.device)).log_prob(z.double()).sum(-1)

    def sample(self, n_samples, n_components, generator, random_state):
        return torch.from_numpy(random_state.laplace(scale=self.density, size=(n_samples, n_components)))


def pca_of_the_others(X, n_components, random_state):
    """PCA of all columns but the first, which it leaves at its mean."""
    return pca_start(np.where(np.arange(X.shape[1]) > 0, X, 0), n_components, random_state)


def leading_columns(X, scale, n_components, random_state, *, ordered, trains):
    """The first columns as factors, each with a tenth of its variance as noise, and the others as noise."""
    variance = X.astype(np.float64).var(axis=0)
    loadings = np.diag(np.sqrt(0.9 * variance))[:, :n_components]
    return LinearGaussian(np.zeros(len(variance)), loadings, variance - np.square(loadings).sum(axis=1))


@pytest.fixture
def registered():
    """The user's objects by name, for one test."""
    registries = LOSSES, LIKELIHOODS, PRIORS, AUTOENCODER_STARTS, VAE_STARTS
    before = [dict(registry) for registry in registries]
    register_loss("log_cosh", Loss(log_cosh))
    register_likelihood("laplace", Laplace)
    register_prior("laplace", LaplacePrior)
    AUTOENCODER_STARTS["others"] = pca_of_the_others
    VAE_STARTS["leading"] = leading_columns
    yield
    for registry, entries in zip(registries, before, strict=True):
        registry.clear()
        registry.update(entries)


class Killed(BaseException):
    """What ends a fit in the middle; nothing in skae catches it."""


class Kill(Callback):
    """Ends a fit at the start of its third epoch, while it is armed."""

    armed = False

    def on_epoch_begin(self, net, **_):
        if Kill.armed and len(net.history) == 3:
            raise Killed


EXTENSIONS = {
    "loss": AutoencoderTransformer(2, loss="log_cosh"),
    "likelihood": VAEGenerator(2, likelihood="laplace"),
    "prior": VAEGenerator(2, prior="laplace"),
    "start of an autoencoder": AutoencoderTransformer(2, start="others"),
    "start of a VAE": VAEGenerator(2, start="leading"),
}


@pytest.fixture(params=EXTENSIONS)
def extended(request):
    """An estimator with something of a user, not fitted."""
    return clone(EXTENSIONS[request.param]).set_params(random_state=0, learning_rate_init=1e-2)


@pytest.fixture(params=[False, True], ids=["unordered", "ordered"])
def estimator(request, extended):
    return extended.set_params(ordered=request.param, max_iter=15 if request.param else 5)


def assert_same_methods(models, expected, X):
    for method in ("transform", "score_samples", "impute"):
        result = getattr(expected, method)(X)
        for model in models:
            np.testing.assert_array_equal(getattr(model, method)(X), result, err_msg=method)
    for model in models:
        np.testing.assert_array_equal(model.sample(9, random_state=0), expected.sample(9, random_state=0))


def from_skops(model):
    """The model that a skops file holds, which needs no trust in types of the user."""
    data = io.dumps(model)
    untrusted = io.get_untrusted_types(data=data)
    assert all(name.startswith("skae.") for name in untrusted), untrusted
    return io.loads(data, trusted=untrusted)


@pytest.mark.usefixtures("exact_estimates")
def test_what_is_registered_is_fitted_scored_sampled_imputed_and_saved(estimator, curve):
    curve = curve[:150]
    X = np.where(np.random.RandomState(0).uniform(size=curve.shape) < 0.05, np.nan, curve)
    model = estimator.fit(X)
    assert model.best_loss_ < model.linear_loss_
    assert np.isfinite(model.score_samples(X[:100])).all()
    assert model.score(X[:100]) > model.score(X[:100, ::-1])
    drawn = model.sample(500, random_state=0)
    np.testing.assert_allclose(drawn.mean(axis=0), curve.mean(axis=0), atol=0.5)
    imputed = model.impute(X)
    assert np.isfinite(imputed).all()
    np.testing.assert_array_equal(imputed[~np.isnan(X)], X[~np.isnan(X)])
    models = [model, model.truncate(1)] if model.ordered else [model]
    for each in models:
        assert_same_methods([pickle.loads(pickle.dumps(each)), from_skops(each)], each, X[:40])
    assert_same_methods([clone(model).fit(X)], model, X[:40])
    before = model.transform(curve)
    assert not np.array_equal(model.partial_fit(curve).transform(curve), before)


def test_a_fit_that_was_interrupted_has_the_same_result(estimator, curve, tmp_path, monkeypatch):
    monkeypatch.setattr("skae.training.checkpoint.SECONDS", 0.0)  # a state is written after each epoch
    curve = curve[:150]
    estimator.set_params(callbacks=[Kill()], max_iter=12 if estimator.ordered else 5)
    expected = clone(estimator).fit(curve)
    estimator.set_params(checkpoint=tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(Kill, "armed", True)
        with pytest.raises(Killed):
            estimator.fit(curve)
    resumed = clone(estimator).fit(curve)
    assert resumed.loss_curve_ == expected.loss_curve_
    assert len(resumed.loss_curve_) > 2
    assert_same_methods([resumed], expected, curve[:40])


def test_the_best_loss_is_in_terms_of_the_users_loss(curve):
    model = AutoencoderTransformer(2, loss="log_cosh", max_iter=3, random_state=0).fit(curve[50:], X_val=curve[:50])
    error = (model.inverse_transform(model.transform(curve[:50])) - curve[:50]) / model.net_.module_.scaler.scale.item()
    assert model.best_loss_ == pytest.approx(np.log(np.cosh(error)).mean(), rel=1e-4)


@pytest.mark.parametrize("name", ["likelihood", "prior"])
def test_densities_integrate_to_one(name, curve):
    X = curve[:, :2]
    model = VAEGenerator(1, max_iter=20, random_state=0, defensive="linear", **{name: "laplace"}).fit(X)
    assert name == "likelihood" or model.prior_.shape == (1,)
    sides = [np.linspace(*ends, 181) for ends in zip(X.min(axis=0) - 3, X.max(axis=0) + 3, strict=True)]
    grid = np.stack(np.meshgrid(*sides), axis=-1).reshape(-1, 2)
    cell = np.prod([side[1] - side[0] for side in sides])
    assert np.exp(model.log_likelihood(grid, 50)).sum() * cell == pytest.approx(1, abs=0.05)
    assert np.exp(model.score_samples(grid)).sum() * cell <= 1.01


def test_a_start_is_where_training_begins(curve):
    autoencoder = AutoencoderTransformer(2, start="others", max_iter=0).fit(curve)
    reconstructed = autoencoder.inverse_transform(autoencoder.transform(curve))
    expected = PCA(2).fit(curve[:, 1:])
    np.testing.assert_allclose(reconstructed[:, 0], curve[:, 0].mean())
    np.testing.assert_allclose(reconstructed[:, 1:], expected.inverse_transform(expected.transform(curve[:, 1:])))
    vae = VAEGenerator(2, start="leading", max_iter=0).fit(curve)
    densities = norm(curve.mean(axis=0), curve.std(axis=0)).logpdf(curve).sum(axis=1)
    np.testing.assert_allclose(vae.score_samples(curve), densities)


def test_names_that_are_known_are_listed_with_the_users(curve):
    with pytest.raises(ValueError, match=r"loss='cosh' is not known.*'log_cosh'"):
        AutoencoderTransformer(loss="cosh").fit(curve)
    with pytest.raises(ValueError, match=r"start='other' is not known.*'others'"):
        AutoencoderTransformer(start="other").fit(curve)
    for parameter in ("likelihood", "prior"):
        with pytest.raises(ValueError, match=rf"{parameter}='lapalce' is not known.*'laplace'"):
            VAEGenerator(**{parameter: "lapalce"}).fit(curve)


def test_a_file_of_what_is_registered_no_more_is_refused(curve):
    saved = pickle.dumps(VAEGenerator(2, likelihood="laplace", max_iter=0).fit(curve))
    del LIKELIHOODS["laplace"]
    with pytest.raises(ValueError, match="likelihood='laplace' is not known"):
        pickle.loads(saved)
