"""What codes, reconstructions, scores and fitted attributes mean."""

import math
import pickle
import random
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from torch import nn

from skae import AutoencoderTransformer, VAEGenerator, reconstruction_error

pytestmark = pytest.mark.usefixtures("narrow_networks", "rough_estimates")

IDENTITY_LINKS = ["squared_error", "absolute_error", "huber"]


def quick(n_components=2, **parameters):
    return AutoencoderTransformer(n_components, **{"max_iter": 10, "random_state": 0} | parameters)


# Step zero is PCA.


@pytest.mark.parametrize("loss", IDENTITY_LINKS)
def test_without_training_it_is_pca_at_every_size(scaled_table, loss):
    X = scaled_table[:200]
    spread = X.std(axis=0).max() + X.std(axis=0)
    for k in sorted({1, 2, 3, min(X.shape) // 2, min(X.shape) - 1, min(X.shape)}):
        pca = PCA(k, svd_solver="full").fit(X)  # the default solver is a random one for some of these
        autoencoder = AutoencoderTransformer(k, loss=loss, max_iter=0).fit(X)
        Z = pca.transform(X)
        np.testing.assert_allclose(autoencoder.transform(X), Z, atol=1e-6 * np.abs(Z).max())
        X_hat = autoencoder.inverse_transform(Z)
        deviation = np.abs(X_hat - pca.inverse_transform(Z)).max(axis=0)
        assert (deviation <= 1e-4 * np.where(X.std(axis=0) > 0, X.std(axis=0), spread)).all()
        some = pca.explained_variance_ > 1e-9 * pca.explained_variance_[0]  # without variance, no direction
        np.testing.assert_allclose(autoencoder.components_[some], pca.components_[some], atol=1e-6)


def test_without_training_it_is_pca_on_all_sizes_of_wine_in_raw_units():
    from sklearn.datasets import load_wine

    X = load_wine().data
    for k in range(1, 14):
        pca = PCA(k).fit(X)
        autoencoder = AutoencoderTransformer(k, max_iter=0).fit(X)
        np.testing.assert_allclose(autoencoder.transform(X), pca.transform(X), atol=1e-6)
        np.testing.assert_allclose(
            autoencoder.inverse_transform(pca.transform(X)) / X.std(axis=0),
            pca.inverse_transform(pca.transform(X)) / X.std(axis=0),
            atol=1e-4,
        )


def test_with_fewer_rows_than_columns_it_is_pca_too(seed):
    X = np.random.RandomState(seed).normal(size=(12, 40))
    for k in (1, 5, 11, 12):
        pca = PCA(k).fit(X)
        autoencoder = AutoencoderTransformer(k, max_iter=0).fit(X)
        # The last component of twelve centred rows has no variance, and so no direction of its own.
        np.testing.assert_allclose(autoencoder.transform(X)[:, :11], pca.transform(X)[:, :11], atol=1e-8)
        assert reconstruction_error(autoencoder, X) == pytest.approx(reconstruction_error(pca, X), abs=1e-12)


def test_score_without_training_is_pcas_explained_variance(scaled_table):
    pca = PCA(2).fit(scaled_table)
    score = AutoencoderTransformer(2, max_iter=0).fit(scaled_table).score(scaled_table)
    assert score == pytest.approx(pca.explained_variance_ratio_.sum(), abs=1e-9)


def test_with_nothing_to_learn_the_linear_start_stands(seed):
    X = np.random.RandomState(seed).normal(size=(300, 10))
    with pytest.warns(ConvergenceWarning, match="linear start") as caught:
        autoencoder = quick(5, random_state=seed, learning_rate_init=0.3).fit(X)
    assert len(caught) == 1
    assert autoencoder.best_loss_ == autoencoder.linear_loss_
    np.testing.assert_allclose(autoencoder.transform(X), PCA(5).fit_transform(X), atol=1e-9)


def test_a_curve_is_learned_where_pca_cannot(curve):
    train, test = curve[:200], curve[200:]
    autoencoder = AutoencoderTransformer(1, max_iter=60, random_state=0).fit(train)
    assert reconstruction_error(autoencoder, test) < 0.3 * reconstruction_error(PCA(1).fit(train), test)


@pytest.mark.usefixtures("default_networks")
def test_digits_are_reconstructed_better_than_by_pca(digits):
    train, test = digits[:1200], digits[1200:]
    autoencoder = quick(8, max_iter=30).fit(train)
    assert reconstruction_error(autoencoder, test) < 0.7 * reconstruction_error(PCA(8).fit(train), test)


def test_an_over_complete_code_is_legal_and_starts_lossless(curve):
    autoencoder = quick(8, max_iter=0).fit(curve)
    assert autoencoder.transform(curve).shape == (300, 8)
    assert autoencoder.score(curve) == pytest.approx(1)
    assert autoencoder.components_.shape == (8, 5)
    assert np.isfinite(quick(8, early_stopping=False).fit(curve).transform(curve)).all()


# Scores and errors.


def test_scores_are_what_they_say(curve):
    train, test = curve[:200], curve[200:]
    autoencoder = quick().fit(train)
    X_hat = autoencoder.inverse_transform(autoencoder.transform(test))
    squares = (test - X_hat) ** 2
    np.testing.assert_allclose(autoencoder.score_samples(test), -squares.mean(axis=1))
    assert autoencoder.score(test) == pytest.approx(1 - squares.sum() / ((test - train.mean(axis=0)) ** 2).sum())


@pytest.mark.parametrize("loss", ["squared_error", "absolute_error", "huber"])
@pytest.mark.parametrize("unit", [1, 1000])
def test_losses_are_in_units_of_x(curve, loss, unit):
    """linear_loss_ can be recomputed from PCA's reconstruction of the held-out rows, in X's units."""
    train, held_out = unit * curve[:200], unit * curve[200:]
    autoencoder = quick(loss=loss, max_iter=3).fit(train, X_val=held_out)
    error = held_out - PCA(2).fit(train).inverse_transform(PCA(2).fit(train).transform(held_out))
    scale = np.sqrt(((train - train.mean(axis=0)) ** 2).mean())
    z = np.abs(error) / scale
    expected = {
        "squared_error": (error**2).mean(),
        "absolute_error": np.abs(error).mean(),
        "huber": scale**2 * np.where(z < 1, z**2 / 2, z - 0.5).mean(),
    }[loss]
    assert autoencoder.linear_loss_ == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("loss", ["squared_error", "log_loss", "poisson"])
def test_best_loss_is_the_loss_of_the_fitted_net_on_the_held_out_rows(loss):
    X = load_digits().data[:400] / 16
    X[:, X[:300].std(axis=0) == 0] = 0.5  # constant columns count for nothing
    autoencoder = quick(4, loss=loss).fit(X[:300], X_val=X[300:])
    mu = autoencoder.inverse_transform(autoencoder.transform(X[300:]))
    x = X[300:]
    with np.errstate(divide="ignore", invalid="ignore"):
        expected = {
            "squared_error": lambda: (x - mu) ** 2,
            "log_loss": lambda: -x * np.log(mu) - (1 - x) * np.log1p(-mu),
            "poisson": lambda: np.where(x > 0, x * np.log(x / mu), 0) - x + mu,
        }[loss]()
    expected[:, X[:300].std(axis=0) == 0] = 0
    assert autoencoder.best_loss_ == pytest.approx(expected.mean(), rel=1e-4)
    assert autoencoder.best_loss_ < autoencoder.linear_loss_


def test_without_early_stopping_curves_are_training_losses_and_the_last_weights_stay(curve):
    autoencoder = quick(early_stopping=False).fit(curve)
    assert autoencoder.validation_loss_curve_ is None
    assert autoencoder.best_loss_ == min(autoencoder.loss_curve_)
    assert len(autoencoder.loss_curve_) == autoencoder.n_iter_ == 10
    # The curve is of codes that are not refined, which are worse.
    assert 0.5 < reconstruction_error(autoencoder, curve) / autoencoder.loss_curve_[-1] < 1.2


def test_without_early_stopping_a_bad_end_is_no_reason_to_go_back(curve):
    from skorch.callbacks import Callback

    class Spoil(Callback):
        def on_epoch_end(self, net, **kwargs):
            with torch.no_grad():
                net.module_.decoder.start_bias.fill_(10.0)

    autoencoder = quick(early_stopping=False, max_iter=3, callbacks=[Spoil()]).fit(curve)
    assert reconstruction_error(autoencoder, curve) > 20


def test_validation_fraction_is_the_share_of_rows_held_out(curve):
    model = quick(validation_fraction=0.5, batch_size=10, max_iter=1).fit(curve)
    assert model.net_.history[0, "train_batch_count"] == 15


@pytest.mark.parametrize(("n", "held_out"), [(2, 1), (300, 30), (12000, 1000)])
def test_by_default_a_tenth_is_held_out_and_1000_rows_at_most(n, held_out):
    X = np.random.RandomState(0).normal(size=(n, 2))
    model = quick(1, hidden_layer_sizes=(), start="random", max_iter=1, batch_size=1 if n < 1000 else 100).fit(X)
    assert model.net_.history[0, "train_batch_count"] == (n - held_out) / model.batch_size


@pytest.mark.parametrize(
    ("model", "n_epochs"),
    [
        (AutoencoderTransformer(1), 120),
        (AutoencoderTransformer(2, ordered=True), 40),
        (VAEGenerator(1), 150),
        (VAEGenerator(1, start="random"), 200),
        (VAEGenerator(1, max_iter=7), 7),
        (AutoencoderTransformer(2, ordered=True, max_iter=5), 2),
    ],
)
@pytest.mark.parametrize("shrunk", [1, 2])
@pytest.mark.filterwarnings("ignore:No epoch had")
def test_the_number_of_epochs_depends_on_the_estimator_and_on_many_samples(model, n_epochs, shrunk, monkeypatch):
    X = np.random.RandomState(0).normal(size=(80, 4))
    monkeypatch.setattr("skae.networks.model.MANY_SAMPLES", 80 // shrunk**2)
    model.set_params(n_iter_no_change=1000, hidden_layer_sizes=(), batch_size=80, random_state=0)
    expected = math.ceil(n_epochs / shrunk) if model.max_iter == "auto" else n_epochs
    assert model.fit(X).n_iter_ == expected


@pytest.mark.parametrize(("n", "batches"), [(400, 7), (700, 6), (20000, 79)])
def test_automatic_batches_grow_with_the_rows(n, batches):
    X = np.random.RandomState(0).normal(size=(n, 2)) ** 3
    model = quick(1, hidden_layer_sizes=(2,), max_iter=1, early_stopping=False).fit(X)
    assert model.net_.history[0, "train_batch_count"] == batches


def test_noise_is_in_standard_deviations_of_each_column(curve):
    model = quick(noise=0.5).fit(curve * [1, 10, 100, 1, 1])
    scale = model.net_.module_.scaler.scale.numpy()
    np.testing.assert_allclose(
        model.net_.iterator_train__noise.numpy() * scale, 0.5 * (curve * [1, 10, 100, 1, 1]).std(axis=0), rtol=1e-5
    )


@pytest.mark.parametrize("loss", ["log_loss", "poisson"])
def test_constant_columns_come_back_with_a_link_too(digits, loss):
    X = digits[:200] / 16
    constant = X.std(axis=0) == 0
    assert constant.any()
    model = quick(4, loss=loss).fit(X)
    np.testing.assert_array_equal(model.inverse_transform(model.transform(X))[:, constant], X[:, constant])


def test_with_early_stopping_the_best_epoch_is_kept(curve):
    train, held_out = curve[:200], curve[200:]
    autoencoder = quick(max_iter=20).fit(train, X_val=held_out)
    assert autoencoder.best_loss_ == pytest.approx(min(autoencoder.validation_loss_curve_), rel=0.01)
    assert reconstruction_error(autoencoder, held_out) == pytest.approx(autoencoder.best_loss_, rel=1e-3)


def test_patience_ends_training(seed):
    X = np.random.RandomState(seed).normal(size=(60, 10))
    with pytest.warns(ConvergenceWarning):
        autoencoder = AutoencoderTransformer(5, n_iter_no_change=3, learning_rate_init=0.3, random_state=seed).fit(X)
    assert autoencoder.n_iter_ == 3


# Options do what they are for.


@pytest.mark.parametrize("loss", ["log_loss", "poisson"])
def test_the_loss_decides_the_range_of_reconstructions(loss):
    X = load_digits().data[:300] / 16
    X_hat = quick(4, loss=loss).fit(X).inverse_transform(10 * np.random.RandomState(0).normal(size=(50, 4)))
    assert X_hat.min() >= 0
    if loss == "log_loss":
        assert X_hat.max() <= 1


def test_a_robust_loss_shrugs_off_outliers(curve):
    rng = np.random.RandomState(0)
    spoiled = curve + 50 * (rng.uniform(size=curve.shape) < 0.02)
    errors = {
        loss: np.median(np.abs(curve - model.inverse_transform(model.transform(curve))))
        for loss in ("squared_error", "absolute_error")
        for model in [quick(2, loss=loss, hidden_layer_sizes=(64,), max_iter=40).fit(spoiled)]
    }
    assert errors["absolute_error"] < errors["squared_error"]


def test_denoising_restores_what_noise_took(digits):
    train, test = digits[:600], digits[1200:]
    noisy = test + 4 * np.random.RandomState(0).normal(size=test.shape) * (train.std(axis=0) > 0)
    errors = {}
    for noise in (0.0, 1.0):
        model = quick(16, noise=noise, max_iter=20).fit(train)
        errors[noise] = ((test - model.inverse_transform(model.transform(noisy))) ** 2).mean()
    assert errors[1.0] < errors[0.0]


def test_sparsity_brings_codes_to_zero(curve):
    def share_near_zero(sparsity):
        Z = (
            quick(4, sparsity=sparsity, hidden_layer_sizes=(64,), max_iter=60, early_stopping=False)
            .fit(curve)
            .transform(curve)
        )
        return (np.abs(Z) < 0.05 * Z.std(axis=0)).mean()

    assert share_near_zero(0.1) > 3 * share_near_zero(0.0)


def test_alpha_shrinks_the_nonlinear_weights_until_pca_is_left(curve):
    nets = [quick(alpha=alpha, max_iter=40, early_stopping=False).fit(curve) for alpha in (0.0, 10.0)]
    weights = [float(model.net_.module_.encoder.correction[0].weight.norm().detach()) for model in nets]
    assert weights[1] < 0.7 * weights[0]
    errors = [reconstruction_error(model, curve) for model in nets]
    assert errors[0] < 0.5 * errors[1]
    assert errors[1] == pytest.approx(reconstruction_error(PCA(2).fit(curve), curve), rel=0.1)


@pytest.mark.parametrize("widths", [(), (16,), (16, 8), 12, np.array([9])])
def test_hidden_widths_are_mirrored(curve, widths):
    module = quick(hidden_layer_sizes=widths, max_iter=1, early_stopping=False).fit(curve).net_.module_

    def shapes(half):
        return [tuple(p.shape) for p in half.correction.parameters() if p.ndim > 1] if half.correction else []

    expected = [widths] if np.isscalar(widths) else list(widths)
    assert [shape[0] for shape in shapes(module.encoder)][:-1] == expected
    assert [shape[0] for shape in shapes(module.decoder)][:-1] == expected[::-1]


def test_verbose_shows_progress_on_stderr(curve, capsys):
    quick(verbose=1, max_iter=2).fit(curve)
    shown = capsys.readouterr()
    assert "AutoencoderTransformer" in shown.err
    assert shown.out == ""
    quick(max_iter=2).fit(curve)
    assert capsys.readouterr().err == ""


# Own modules.


def test_own_modules_from_a_random_start_are_exactly_the_layers_given(curve):
    def coder(n_in, n_out):
        return nn.Sequential(nn.Linear(n_in, 6), nn.ReLU(), nn.Linear(6, n_out))

    model = quick(encoder=coder, decoder=coder, start="random", max_iter=3, early_stopping=False).fit(curve)
    module = model.net_.module_
    assert [type(layer) for layer in module.encoder] == [nn.Linear, nn.ReLU, nn.Linear]
    with torch.no_grad():
        Z = module.encoder(torch.from_numpy(curve))
        X_hat = module.decoder(Z)
    np.testing.assert_allclose(model.transform(curve), Z.numpy())
    np.testing.assert_allclose(model.inverse_transform(model.transform(curve)), X_hat.numpy())
    assert not hasattr(model, "components_")
    assert model.linear_loss_ is None


def test_own_modules_with_a_linear_start_begin_as_pca_and_learn(curve):
    def coder(n_in, n_out):
        return nn.Sequential(nn.Linear(n_in, 32), nn.GELU(), nn.Linear(32, n_out))

    start = quick(1, encoder=coder, decoder=coder, max_iter=0).fit(curve)
    np.testing.assert_allclose(start.transform(curve), PCA(1).fit_transform(curve), atol=1e-9)
    trained = quick(1, encoder=coder, decoder=coder, max_iter=50, learning_rate_init=1e-2).fit(curve)
    assert trained.best_loss_ < 0.7 * trained.linear_loss_


def test_own_modules_with_dropout_and_batch_norm_give_a_row_one_code(curve):
    def coder(n_in, n_out):
        return nn.Sequential(nn.Linear(n_in, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, n_out))

    for start in ("pca", "random"):
        model = quick(encoder=coder, decoder=coder, start=start).fit(curve)
        np.testing.assert_allclose(model.transform(curve)[:7], model.transform(curve[:7]), rtol=1e-7, atol=1e-9)
        again = quick(encoder=coder, decoder=coder, start=start).fit(curve)
        np.testing.assert_array_equal(model.transform(curve), again.transform(curve))


def test_a_module_shared_by_the_callable_is_not_trained_in_place(curve):
    shared = nn.Linear(5, 2)
    before = shared.weight.detach().clone()
    quick(encoder=lambda n_in, n_out: shared, max_iter=2).fit(curve)
    assert torch.equal(before, shared.weight)


@pytest.mark.parametrize("start", ["pca", "random"])
@pytest.mark.parametrize("first", [nn.Identity, nn.Dropout], ids=lambda first: first.__name__)
def test_own_layers_that_work_in_place_leave_the_rows_alone(curve, start, first):
    """Dropout gives a new tensor in training, and its input itself after."""

    def coders(inplace):
        def encoder(n_in, n_out):
            return nn.Sequential(first(), nn.ReLU(inplace=inplace), nn.Linear(n_in, n_out))

        return encoder

    before = curve.copy()

    one, two = (
        quick(2, encoder=coders(inplace), start=start, max_iter=5).fit(curve[:200], X_val=curve[200:])
        for inplace in (False, True)
    )
    assert one.best_loss_ == two.best_loss_
    np.testing.assert_array_equal(one.transform(curve), two.transform(curve))
    np.testing.assert_array_equal(curve, before)


@pytest.mark.parametrize("layer", [nn.LazyLinear, nn.LazyBatchNorm1d], ids=lambda layer: layer.__name__)
def test_own_lazy_layers_take_their_shape(curve, layer):
    def encoder(n_in, n_out):
        return nn.Sequential(layer(n_in) if layer is nn.LazyLinear else layer(), nn.Linear(n_in, n_out))

    assert quick(encoder=encoder).fit(curve).transform(curve).shape == (300, 2)


def test_an_own_net_with_nothing_to_train_is_just_used(curve):
    class Halve(nn.Module):
        def __init__(self, n_in, n_out):
            super().__init__()
            self.n_out = n_out

        def forward(self, x):
            return x.repeat(1, 5)[:, : self.n_out] / 2

    model = quick(5, encoder=Halve, decoder=Halve, start="random").fit(curve)
    np.testing.assert_allclose(model.transform(curve), curve / 2)
    assert model.n_iter_ == 0


def test_fits_in_two_threads_are_the_fits_in_one(curve):
    def coder(n_in, n_out):
        return nn.Sequential(nn.Linear(n_in, 8), nn.Dropout(0.5), nn.Linear(8, n_out))

    def fit(seed):
        return quick(encoder=coder, decoder=coder, early_stopping=False, random_state=seed).fit(curve).transform(curve)

    before = torch.random.get_rng_state()
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(fit, range(4)))
    assert torch.equal(before, torch.random.get_rng_state())
    for seed, codes in enumerate(together):
        np.testing.assert_allclose(codes, fit(seed), atol=1e-9)


# A row's code is its own.


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_codes_do_not_depend_on_batch_or_order(digits, dtype):
    X = digits[:500].astype(dtype)
    model = quick(4, max_iter=3).fit(X)
    order = np.random.RandomState(0).permutation(500)
    # Of float32 the rounding of products: codes and scores are of the size of 10.
    tolerance = {"rtol": 1e-5, "atol": 1e-4} if dtype == np.float32 else {"atol": 1e-9}
    for method in (model.transform, model.score_samples):
        whole = method(X)
        assert whole.dtype == dtype
        np.testing.assert_allclose(method(X[order]), whole[order], **tolerance)
        np.testing.assert_allclose(np.concatenate([method(X[i : i + 1]) for i in range(9)]), whole[:9], **tolerance)
    assert model.inverse_transform(model.transform(X)).dtype == dtype


def test_float32_and_float64_rows_have_the_same_codes(digits):
    model = quick(4, max_iter=3).fit(digits)
    Z = model.transform(digits)
    np.testing.assert_allclose(model.transform(digits.astype(np.float32)), Z, atol=1e-4 * np.abs(Z).max())


def test_rows_beyond_one_block_are_all_transformed(curve):
    model = quick(max_iter=1).fit(curve)
    many = np.tile(curve, (40, 1))
    np.testing.assert_allclose(model.transform(many), np.tile(model.transform(curve), (40, 1)), rtol=1e-7, atol=1e-12)


@pytest.fixture(scope="module")
def plain(curve):
    return quick(1, max_iter=30).fit(curve)


@pytest.mark.parametrize("offset", [0, 1e9])
@pytest.mark.parametrize("unit", [1e-12, 1, 1e12])
def test_offsets_and_units_change_nothing_but_the_units(curve, plain, offset, unit):
    moved = quick(1, max_iter=30).fit((curve + offset) * unit)
    # At an offset of 1e9 a float64 has about seven digits left for the signal.
    assert moved.score((curve + offset) * unit) == pytest.approx(plain.score(curve), abs=1e-2 if offset else 1e-4)
    assert moved.best_loss_ == pytest.approx(unit**2 * plain.best_loss_, rel=0.1 if offset else 1e-3)


def test_constant_columns_come_back_constant_and_do_not_matter(curve):
    with_constants = np.hstack([np.full((300, 1), 7.5), curve, np.zeros((300, 1))])
    for start in ("pca", "random"):
        model = quick(2, start=start).fit(with_constants)
        X_hat = model.inverse_transform(3 * np.random.RandomState(0).normal(size=(20, 2)))
        np.testing.assert_array_equal(X_hat[:, [0, -1]], np.tile([7.5, 0.0], (20, 1)))
        elsewhere = with_constants.copy()
        elsewhere[:, 0] = -3
        np.testing.assert_array_equal(model.transform(elsewhere), model.transform(with_constants))


@pytest.mark.parametrize("X", [np.arange(10.0)[:, None], np.full((10, 3), 2.0)], ids=["one column", "all constant"])
def test_degenerate_tables_work(X):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = quick(1).fit(X)
    np.testing.assert_allclose(model.inverse_transform(model.transform(X)), X, atol=1e-6)
    assert model.score(X) == pytest.approx(1)


# Determinism.


@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_same_seed_same_fit(curve, noise):
    one, two, other = (quick(noise=noise, max_iter=5, random_state=s).fit(curve) for s in (3, 3, 4))
    np.testing.assert_array_equal(one.transform(curve), two.transform(curve))
    assert one.loss_curve_ == two.loss_curve_
    assert one.loss_curve_ != other.loss_curve_


@pytest.mark.parametrize("own", [False, True])
def test_global_generators_are_left_as_found(curve, own):
    def coder(n_in, n_out):
        return nn.Sequential(nn.Linear(n_in, 4), nn.Dropout(0.5), nn.Linear(4, n_out))

    modules = {"encoder": coder, "decoder": coder} if own else {}
    before = torch.random.get_rng_state(), random.getstate(), pickle.dumps(np.random.get_state())
    model = quick(noise=0.1, early_stopping=False, **modules).fit(curve)
    model.partial_fit(curve)
    model.score(curve)
    pickle_free = torch.random.get_rng_state(), random.getstate(), pickle.dumps(np.random.get_state())
    assert torch.equal(before[0], pickle_free[0])
    assert before[1:] == pickle_free[1:]


def test_without_a_seed_one_draw_is_taken_from_numpys_generator(curve):
    np.random.seed(0)
    model = quick(random_state=None, max_iter=1).fit(curve)
    after = np.random.randint(1000)
    np.random.seed(0)
    assert np.random.randint(2**31 - 1) == model._fitted.built.seed
    assert np.random.randint(1000) == after


# partial_fit.


def test_partial_fit_learns_pass_by_pass(curve):
    model = quick(1)
    model.partial_fit(curve)
    assert (model.n_iter_, len(model.loss_curve_)) == (1, 1)
    for _ in range(40):
        model.partial_fit(curve)
    assert model.n_iter_ == 41
    assert model.validation_loss_curve_ is model.best_loss_ is model.linear_loss_ is None
    assert reconstruction_error(model, curve) < 0.6 * reconstruction_error(PCA(1).fit(curve), curve)


def test_partial_fit_goes_on_the_same_from_a_pickle(curve):
    model = quick().partial_fit(curve).partial_fit(curve)
    restored = pickle.loads(pickle.dumps(model))
    model.partial_fit(curve)
    restored.partial_fit(curve)
    np.testing.assert_array_equal(model.transform(curve), restored.transform(curve))


def test_partial_fit_goes_on_from_fit(curve):
    model = quick(1, max_iter=30).fit(curve)
    n_iter = model.n_iter_
    model.partial_fit(curve)
    assert model.n_iter_ == n_iter + 1
    fresh = quick(1).partial_fit(curve)
    assert reconstruction_error(model, curve) < 0.2 * reconstruction_error(fresh, curve)


def test_the_first_batch_decides_mean_and_start(curve):
    model = quick().partial_fit(curve[:100])
    model.partial_fit(curve[100:] + 5)
    np.testing.assert_allclose(model.mean_, curve[:100].mean(axis=0))
    model.partial_fit(curve[:1])


def test_partial_fit_takes_the_rate_of_the_day(curve):
    model = quick().partial_fit(curve)
    codes = model.transform(curve)
    before = model.inverse_transform(codes)
    model.set_params(learning_rate_init=1e-12).partial_fit(curve)
    np.testing.assert_allclose(model.inverse_transform(codes), before, atol=1e-6)


def test_fit_inside_no_grad_trains_all_the_same(curve):
    with torch.no_grad():
        inside = quick().fit(curve)
    np.testing.assert_array_equal(inside.transform(curve), quick().fit(curve).transform(curve))


def test_rows_go_through_in_any_mode(curve):
    model = quick().fit(curve)
    with torch.inference_mode():
        inside = pickle.loads(pickle.dumps(model)).transform(curve)
    np.testing.assert_array_equal(inside, model.transform(curve))


# X_val.


def test_validation_rows_choose_the_weights(curve):
    train, held_out = curve[:200], curve[200:]
    model = quick(max_iter=30).fit(train, X_val=held_out)
    np.testing.assert_allclose(model.mean_, train.mean(axis=0))
    assert model.net_.history[0, "train_batch_count"] * 32 >= 200


def test_fit_transform_passes_validation_rows_on(curve):
    one = quick().fit(curve[:200], X_val=curve[200:]).transform(curve[:200])
    np.testing.assert_array_equal(one, quick().fit_transform(curve[:200], X_val=curve[200:]))


# New rows.


def test_new_rows_look_like_rows(curve):
    rows = quick(1, max_iter=40).fit(curve).sample(2000, random_state=0)
    assert rows.shape == (2000, 5)
    np.testing.assert_allclose(rows.mean(axis=0), curve.mean(axis=0), atol=0.2)
    np.testing.assert_allclose(rows.std(axis=0), curve.std(axis=0), rtol=0.2)
    # The second column is the square of the first; a linear model cannot say so.
    assert np.median(np.abs(rows[:, 1] - rows[:, 0] ** 2)) < 0.3


def test_new_rows_are_those_of_the_seed_and_outlive_a_pickle(curve):
    model = quick(max_iter=3).fit(pd.DataFrame(curve, columns=list("abcde")))
    unused = pickle.loads(pickle.dumps(model))
    rows = model.sample(5, random_state=3)
    assert isinstance(rows, pd.DataFrame)
    assert list(rows.columns) == list("abcde")
    for copied in (unused, pickle.loads(pickle.dumps(model))):
        pd.testing.assert_frame_equal(copied.sample(5, random_state=3), rows)
    assert (model.sample(5, random_state=4) != rows).any(axis=None)
    assert (model.sample(5) != model.sample(5)).any(axis=None)


def test_codes_of_sorted_tables_are_all_sampled(curve, monkeypatch):
    monkeypatch.setattr("skae._autoencoder.MAX_CODES", 60)
    ordered = curve[np.argsort(curve[:, 0])]
    rows = quick(1, max_iter=0).fit(ordered).sample(2000, random_state=0)
    np.testing.assert_allclose(rows.mean(axis=0), curve.mean(axis=0), atol=0.5)


def test_few_rows_can_be_sampled_from():
    X = np.random.RandomState(0).normal(size=(4, 3))
    assert quick(2, max_iter=0).fit(X).sample(3).shape == (3, 3)
    assert quick(1, max_iter=0).fit(np.ones((4, 3))).sample(2).tolist() == [[1, 1, 1]] * 2
    assert quick(1, max_iter=0).fit(X[:2]).partial_fit(X[:1]).sample(2).shape == (2, 3)


def test_new_rows_know_no_unit(curve):
    def coder(n_in, n_out):
        return nn.Linear(n_in, n_out)

    model = quick(start="random", encoder=coder, decoder=coder, max_iter=60, learning_rate_init=1e-2).fit(1e-6 * curve)
    real, new = model.inverse_transform(model.transform(1e-6 * curve)), model.sample(2000, random_state=0)
    np.testing.assert_allclose(new.std(axis=0), real.std(axis=0), rtol=0.3)


def test_codes_in_many_small_groups_are_drawn_in_these(seed):
    centres = 10 * np.random.RandomState(0).normal(size=(24, 5))
    X = np.repeat(centres, 15, axis=0) + 0.1 * np.random.RandomState(seed).normal(size=(360, 5))
    model = quick(4, max_iter=0, random_state=seed).fit(X)
    decoded, drawn = model.inverse_transform(model.transform(X)), model.sample(500, random_state=0)
    real, new = (np.linalg.norm(rows[:, None] - centres, axis=2).min(axis=1) for rows in (decoded, drawn))
    assert np.quantile(new, 0.9) < 2 * np.quantile(real, 0.9)


def test_a_code_that_does_not_vary_is_not_widened(curve):
    flat = np.column_stack([curve[:, :1], np.zeros((len(curve), 2))])
    np.testing.assert_allclose(quick(2, max_iter=0).fit(flat).sample(50, random_state=0)[:, 1:], 0, atol=1e-6)


@pytest.mark.parametrize("n_samples", [0, -1, 2.5, "many"])
def test_a_bad_number_of_new_rows_is_named(curve, n_samples):
    with pytest.raises(ValueError, match=r"n_samples="):
        quick(max_iter=0).fit(curve).sample(n_samples)
