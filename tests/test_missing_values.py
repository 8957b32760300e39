"""Rows with gaps: what is missing counts for nothing, and is filled by what the rest of the row says."""

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import multivariate_normal
from sklearn.decomposition import PCA
from sklearn.utils import get_tags

from skae import AutoencoderTransformer, AutoencoderTransformerCV, VAEGenerator, reconstruction_error
from skae.likelihoods import LinearModels
from skae.nn import given_observed
from skae.starts import observed_normal

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
ESTIMATORS = [AutoencoderTransformer, VAEGenerator]


def with_gaps(X, share=0.2, seed=0):
    gaps = np.random.RandomState(seed).uniform(size=X.shape) < share
    gaps[gaps.all(axis=1), 0] = False
    return np.where(gaps, np.nan, X)


@pytest.fixture(scope="module")
def factors():
    """Rows of two factors in six columns of several units."""
    rng = np.random.RandomState(0)
    loadings = rng.normal(size=(6, 2))
    rows = rng.normal(size=(600, 2)) @ loadings.T + 0.3 * rng.normal(size=(600, 6))
    return rows * np.array([1, 10, 0.1, 1, 1, 100]) + np.array([0, 5, 0, -100, 1e4, 0])


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("where", ["training", "new rows", "both"])
def test_every_method_takes_gaps(estimator, where, curve):
    gaps = with_gaps(curve)
    model = estimator(2, max_iter=3, random_state=0).fit(curve if where == "new rows" else gaps)
    rows = curve if where == "training" else gaps
    for method in ("transform", "score_samples", "score", "impute"):
        assert np.isfinite(getattr(model, method)(rows)).all(), method
    assert get_tags(model).input_tags.allow_nan


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_without_gaps_nothing_is_told_of_any(estimator, curve):
    module = estimator(2, max_iter=0).fit(curve).net_.module_
    assert module.encoder.path.in_features == 5
    assert estimator(2, max_iter=0).fit(with_gaps(curve)).net_.module_.encoder.path.in_features == 10


def test_a_code_of_a_row_with_gaps_is_the_exact_posterior_mean_of_the_linear_model(factors):
    model = VAEGenerator(2, max_iter=0).fit(factors)
    rows = with_gaps(factors[:20], 0.4)
    loadings, noise = model.components_.T, model.noise_variance_
    for code, row in zip(model.transform(rows), rows, strict=True):
        seen = ~np.isnan(row)
        weighted = loadings[seen] / noise[seen, None]
        precision = np.eye(2) + weighted.T @ loadings[seen]
        exact = np.linalg.solve(precision, weighted.T @ (row - model.mean_)[seen])
        np.testing.assert_allclose(code, exact, atol=0.02)


def test_a_score_is_a_bound_of_what_is_observed(factors):
    model = VAEGenerator(2, max_iter=0).fit(factors)
    rows = with_gaps(factors[:50], 0.4)
    covariance = model.components_.T @ model.components_ + np.diag(model.noise_variance_)
    exact = [
        multivariate_normal(model.mean_[seen], covariance[np.ix_(seen, seen)]).logpdf(row[seen])
        for row, seen in zip(rows, ~np.isnan(rows), strict=True)
    ]
    elbo, tighter = model.score_samples(rows), model.log_likelihood(rows, n_draws=2000)
    assert (elbo <= np.array(exact) + 1e-6).all()
    assert np.mean(exact - elbo) < 0.3
    assert 0 < np.mean(exact - tighter) < 0.1


def test_a_gap_is_filled_with_the_conditional_mean(factors):
    model = VAEGenerator(2, max_iter=0).fit(factors)
    row = factors[:1].copy()
    row[0, 1] = np.nan
    seen = ~np.isnan(row[0])
    covariance = model.components_.T @ model.components_ + np.diag(model.noise_variance_)
    exact = model.mean_[1] + covariance[1, seen] @ np.linalg.solve(
        covariance[np.ix_(seen, seen)], (row[0] - model.mean_)[seen]
    )
    deviation = np.sqrt(covariance[1, 1])
    assert abs(model.impute(row)[0, 1] - exact) < 0.1 * deviation
    draws = np.array([filled[0, 1] for filled in model.impute(row, n_draws=400, random_state=0)])
    rest = covariance[1, 1] - covariance[1, seen] @ np.linalg.solve(covariance[np.ix_(seen, seen)], covariance[seen, 1])
    assert abs(draws.mean() - exact) < 0.1 * deviation
    assert 0.8 < draws.std() / np.sqrt(rest) < 1.2


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_imputing_beats_column_means_and_leaves_what_is_observed(estimator, factors):
    gaps = with_gaps(factors)
    filled = estimator(2, max_iter=10, random_state=0).fit(gaps).impute(gaps)
    missing = np.isnan(gaps)
    np.testing.assert_array_equal(filled[~missing], gaps[~missing])
    error = ((filled - factors) / factors.std(axis=0))[missing]
    assert np.square(error).mean() < 0.5


@pytest.mark.parametrize("share", [0.1, 0.4])
def test_the_start_is_estimated_from_what_is_observed(share, factors):
    truth = PCA(2).fit(factors / factors.std(axis=0)).components_
    model = AutoencoderTransformer(2, max_iter=0, random_state=0).fit(with_gaps(factors / factors.std(axis=0), share))
    overlap = np.linalg.svd(truth @ np.linalg.qr(model.components_.T)[0])[1]
    assert overlap.min() > 0.98


def test_em_finds_the_normal_that_rows_are_drawn_from(factors):
    X = factors / factors.std(axis=0)
    model = observed_normal(with_gaps(X, 0.3), 3, np.random.RandomState(0))
    np.testing.assert_allclose(model.location, X.mean(axis=0), atol=0.1)
    covariance = model.loadings @ model.loadings.T + np.diag(model.noise)
    np.testing.assert_allclose(covariance, np.cov(X.T), atol=0.15)


def test_codes_of_complete_rows_do_not_depend_on_others_having_gaps(curve):
    model = AutoencoderTransformer(2, max_iter=5, random_state=0).fit(curve)
    mixed = np.vstack([with_gaps(curve[:10], 0.5), curve[10:20]])
    np.testing.assert_allclose(model.transform(mixed)[10:], model.transform(curve[10:20]), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_row_of_nothing_but_gaps_is_the_mean_row(estimator, curve):
    model = estimator(2, max_iter=0).fit(curve)
    np.testing.assert_allclose(model.impute([[np.nan] * 5])[0], curve.mean(axis=0), atol=0.3)
    assert np.isfinite(model.score_samples([[np.nan] * 5])).all()


def test_posterior_given_what_is_observed_is_that_of_the_observed_columns():
    rng = torch.Generator().manual_seed(0)
    loadings, x = (torch.randn(shape, generator=rng, dtype=torch.float64) for shape in ((4, 2), (1, 4)))
    noise = torch.tensor([0.5, 1.0, 2.0, 0.1], dtype=torch.float64)
    short, _ = given_observed(x[:, :3], loadings[:3], noise[:3])
    x[0, 3] = torch.nan
    torch.testing.assert_close(given_observed(x, loadings, noise)[0], short)


def test_the_linear_models_share_is_of_what_is_observed():
    rng = torch.Generator().manual_seed(0)
    loadings = torch.randn((1, 4, 1), generator=rng, dtype=torch.float64)
    x = torch.randn((3, 4), generator=rng, dtype=torch.float64)
    defence = LinearModels(1, 4, 1).double()
    defence.start_at(loadings, torch.full((1, 4), 0.5), torch.ones(4))
    covariance = (loadings[0] @ loadings[0].T + 0.5 * torch.eye(4)).numpy()
    np.testing.assert_allclose(defence.log_prob(x), multivariate_normal(np.zeros(4), covariance).logpdf(x.numpy()))
    short = multivariate_normal(np.zeros(2), covariance[:2, :2]).logpdf(x[:, :2].numpy())
    x[:, 2:] = torch.nan
    np.testing.assert_allclose(defence.log_prob(x), short)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_best_loss_is_that_of_the_held_out_rows(estimator, curve):
    gaps = with_gaps(curve)
    model = estimator(2, max_iter=0, random_state=0).fit(gaps[50:], X_val=gaps[:50])
    told = -model.score(gaps[:50]) if estimator is VAEGenerator else reconstruction_error(model, gaps[:50])
    assert model.best_loss_ == pytest.approx(told, rel=1e-3)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("parameters", [{}, {"ordered": True}, {"start": "random"}], ids=str)
def test_a_pickle_fills_as_before(estimator, parameters, curve):
    gaps = with_gaps(curve)
    model = estimator(2, max_iter=2, random_state=0, **parameters).fit(gaps)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).impute(gaps), model.impute(gaps))


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("parameters", [{}, {"encoder": torch.nn.Linear, "start": "random"}], ids=str)
def test_a_later_pass_may_be_the_first_with_gaps(estimator, parameters, curve):
    model = estimator(2, random_state=0, **parameters)
    for rows in (curve[:100], with_gaps(curve[100:200]), curve[200:]):
        model.partial_fit(rows)
    assert np.isfinite(model.loss_curve_).all()
    assert np.isfinite(model.score(with_gaps(curve)))


def test_images_may_have_gaps():
    images = with_gaps(np.random.RandomState(0).normal(size=(40, 128)))
    for estimator in ESTIMATORS:
        model = estimator(2, feature_shape=(2, 8, 8), max_iter=1, random_state=0).fit(images)
        assert np.isfinite(model.impute(images)).all()


def test_own_modules_get_filled_rows(curve):
    seen = []

    class Listening(torch.nn.Linear):
        def forward(self, x):
            seen.append(bool(x.isnan().any()))
            return super().forward(x)

    for start in ("pca", "random"):
        model = AutoencoderTransformer(
            2, encoder=lambda n_in, n_out: Listening(n_in, n_out), start=start, max_iter=1, random_state=0
        )
        seen.clear()
        model.fit(with_gaps(curve))
        assert np.isfinite(model.transform(with_gaps(curve))).all()
        assert not seen[-1]


def test_counts_and_bits_may_have_gaps(curve):
    counts = with_gaps(np.floor(np.exp(curve / 2 + 1)))
    filled = VAEGenerator(2, likelihood="poisson", max_iter=3, random_state=0).fit(counts).impute(counts)
    assert (filled >= 0).all()
    bits = with_gaps((curve > 0).astype(float))
    model = VAEGenerator(2, likelihood="bernoulli", max_iter=3, random_state=0).fit(bits)
    assert ((model.impute(bits) >= 0) & (model.impute(bits) <= 1)).all()
    (drawn,) = model.impute(bits, n_draws=1, random_state=0)
    assert set(np.unique(drawn)) == {0, 1}


def test_frames_come_back_with_their_index(curve):
    frame = pd.DataFrame(with_gaps(curve), columns=list("abcde"), index=np.arange(300) + 7)
    model = VAEGenerator(2, max_iter=1, random_state=0).fit(frame)
    filled = model.impute(frame)
    assert list(filled) == list(frame)
    assert filled.index.equals(frame.index)
    assert not filled.isna().any(axis=None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of scikit-learn, that a list has no names
        of_list = model.impute(frame.to_numpy().tolist())
    np.testing.assert_array_equal(of_list, filled)


def test_the_search_takes_gaps_and_knows_no_pca_of_them(curve):
    search = AutoencoderTransformerCV((1, 2), cv=2, max_iter=2, random_state=0).fit(with_gaps(curve))
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert np.isnan(search.cv_results_["mean_pca_error"]).all()


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_rows_of_nothing_do_no_harm_where_others_judge_or_teach(estimator, curve):
    nothing = np.full((1, 5), np.nan)
    model = estimator(2, max_iter=2, random_state=0).fit(curve, X_val=np.vstack([with_gaps(curve[:9]), nothing]))
    assert np.isfinite(model.best_loss_)
    passes = estimator(2, random_state=0).partial_fit(curve).partial_fit(nothing)
    assert np.isfinite(passes.transform(curve)).all()


def test_a_mask_that_never_varies_never_counts(curve):
    gaps = curve.copy()
    gaps[::3, 0] = np.nan
    model = AutoencoderTransformer(2, max_iter=3, random_state=0).fit(gaps)
    correction = model.net_.module_.encoder.correction
    assert correction[0].weight[:, 5].abs().max() > 0
    assert correction[0].weight[:, 6:].abs().max() == 0


def test_every_imputation_has_codes_of_its_own(curve):
    gaps = with_gaps(curve, 0.5)
    model = VAEGenerator(2, max_iter=0, random_state=0).fit(gaps)
    first, second = model.impute(gaps, n_draws=2, random_state=0)
    again, _ = model.impute(gaps, n_draws=2, random_state=0)
    np.testing.assert_array_equal(first, again)
    assert (first != second)[np.isnan(gaps)].mean() > 0.99


def normal_rows(seed):
    """Rows of two factors in eight columns of several units."""
    rng = np.random.RandomState(seed)
    X = rng.normal(size=(600, 2)) @ rng.normal(size=(2, 8)) + 0.1 * rng.normal(size=(600, 8))
    return X * 10.0 ** np.arange(-4, 4)


def waves(seed):
    """Rows of one number in eight columns, each a wave of another length."""
    rng = np.random.RandomState(seed)
    t = rng.uniform(-2, 2, size=(600, 1))
    return np.cos(np.arange(1, 9) / 2 * t + rng.uniform(6, size=8)) + 0.05 * rng.normal(size=(600, 8))


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_net_that_knows_little_leaves_gaps_to_the_normal_model(estimator, seed):
    X = normal_rows(seed)
    gaps = with_gaps(X, 0.1, seed)
    missing, unit = np.isnan(gaps), X.std(axis=0)
    model = estimator(2, start="random", max_iter=1, random_state=0).fit(gaps)
    share = model._normal_shares[1]
    assert 0.9 < share <= 1
    filled, by_net, by_normal = model.impute(gaps), model._filled_by_net(gaps), model._filled_by_normal(gaps)
    np.testing.assert_allclose(filled, by_net + share * (by_normal - by_net))
    np.testing.assert_array_equal(filled[~missing], gaps[~missing])
    errors = [np.square((rows - X) / unit)[missing].mean() for rows in (filled, by_net)]
    assert errors[0] < 0.2 * errors[1]
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).impute(gaps), filled)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_the_share_is_that_of_the_size(estimator, seed):
    X = normal_rows(seed)
    X = np.hstack([X, normal_rows(seed + 1) * [1, 1, 1, 1, 1e3, 1, 1, 1]])
    gaps = with_gaps(X, 0.1, seed)
    model = estimator(4, ordered=True, max_iter=10, random_state=0).fit(gaps)
    missing, unit = np.isnan(gaps), X.std(axis=0)
    for size in (1, 2, 3, 4):
        cut = model.truncate(size)
        by_net, by_normal = cut._filled_by_net(gaps), cut._filled_by_normal(gaps)
        step, error = (((rows - by_net) / unit)[missing] for rows in (by_normal, X))
        best = step @ error / (step @ step)
        assert abs(model._normal_shares[size - 1] - np.clip(best, 0, 1)) < (0.15 if size != 3 else 1)
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(cut)).impute(gaps), cut.impute(gaps))
    assert model._normal_shares[0] > 0.9  # one code knows little of four factors


def test_the_share_of_own_modules_counts_columns_in_their_own_units(seed):
    X = normal_rows(seed)
    X = X / X.std(axis=0)
    own = {"start": "random", "encoder": torch.nn.Linear, "max_iter": 2, "random_state": 0}
    models = [AutoencoderTransformer(2, **own).fit(with_gaps(X * unit, 0.1, seed)) for unit in (1, 0.25)]
    mixed = AutoencoderTransformer(2, **own).fit(with_gaps(X * np.repeat([1e-3, 30], 4), 0.1, seed))
    assert min(model._normal_shares[1] for model in (*models, mixed)) > 0.9


def test_a_net_that_knows_more_fills_gaps_itself(seed):
    X = waves(seed)
    gaps = with_gaps(X, 0.1, seed)
    model = VAEGenerator(4, max_iter=60, random_state=0).fit(gaps)
    assert model._normal_shares[3] < 0.5
    missing, unit = np.isnan(gaps), X.std(axis=0)
    errors = [
        np.square((rows - X) / unit)[missing].mean()
        for rows in (model.impute(gaps), model._filled_by_net(gaps), model._filled_by_normal(gaps))
    ]
    assert errors[0] < 1.02 * min(errors)


def test_without_gaps_in_training_or_an_identity_link_the_net_fills_gaps_alone():
    X = normal_rows(0)
    holes = np.round(with_gaps(np.exp(X / X.std(axis=0)), 0.1))
    own = {"start": "random", "encoder": torch.nn.Linear, "max_iter": 2, "random_state": 0}  # which takes raw rows
    for model in (
        AutoencoderTransformer(2, max_iter=2, random_state=0).fit(X),
        AutoencoderTransformer(2, loss="poisson", max_iter=2, random_state=0).fit(holes),
        VAEGenerator(2, likelihood="poisson", max_iter=2, random_state=0).fit(holes),
        VAEGenerator(2, likelihood="poisson", **own).fit(holes),
        AutoencoderTransformer(2, loss="poisson", **own).fit(holes),
    ):
        assert not model._normal_shares.any()
        np.testing.assert_allclose(model.impute(holes), model._filled_by_net(holes), rtol=1e-9)


def test_gaps_of_columns_in_units_that_are_far_apart_are_filled():
    rng = np.random.RandomState(0)
    X = with_gaps(rng.normal(size=(60, 3)) * [1e-12, 1, 1e12])
    model = AutoencoderTransformer(1, max_iter=2, random_state=0).fit(X)
    assert np.isfinite(model.impute(X)).all()
    own = AutoencoderTransformer(
        1, start="random", encoder=torch.nn.Linear, decoder=torch.nn.Linear, max_iter=2, random_state=0
    ).fit(with_gaps(rng.normal(size=(60, 3)) * 1e20))
    assert pickle.loads(pickle.dumps(own)).transform(X * 1e8).shape == (60, 1)


def test_a_mixture_of_codes_fills_rows_of_float32(seed):
    rng = np.random.RandomState(seed)
    X = np.repeat([[-6.0], [6.0]], 60, axis=0) + rng.normal(size=(120, 4))
    model = VAEGenerator(2, prior="mixture", max_iter=30, learning_rate_init=1e-2, random_state=0).fit(X.astype("f4"))
    assert model.prior_ is not None
    gaps = with_gaps(X)
    np.testing.assert_allclose(model.impute(gaps.astype("f4")), model.impute(gaps), atol=1e-2)
