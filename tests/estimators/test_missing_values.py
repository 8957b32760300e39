"""Missing values: they count for nothing, and are imputed by what the rest of the row says."""

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import multivariate_normal
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.utils import get_tags

from skae import AutoencoderTransformer, LatentSizeCV, VAEGenerator, reconstruction_error
from skae.data.rows import ArrayRows
from skae.training.distributed import SINGLE_PROCESS

pytestmark = [
    pytest.mark.usefixtures("narrow_networks", "rough_estimates"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]
ESTIMATORS = [AutoencoderTransformer, VAEGenerator]


def linear(n_in, n_out):
    return torch.nn.Linear(n_in, n_out)


def with_missing(X, share=0.2, seed=0):
    missing = np.random.RandomState(seed).uniform(size=X.shape) < share
    missing[missing.all(axis=1), 0] = False
    return np.where(missing, np.nan, X)


@pytest.fixture(scope="module")
def factors():
    """Rows of two factors in six columns of several units."""
    rng = np.random.RandomState(0)
    loadings = rng.normal(size=(6, 2))
    rows = rng.normal(size=(600, 2)) @ loadings.T + 0.3 * rng.normal(size=(600, 6))
    return rows * np.array([1, 10, 0.1, 1, 1, 100]) + np.array([0, 5, 0, -100, 1e4, 0])


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("where", ["training", "new rows", "both"])
def test_every_method_takes_missing_values(estimator, where, curve):
    curve = curve[:120]
    incomplete = with_missing(curve)
    model = estimator(2, max_iter=3, random_state=0).fit(curve if where == "new rows" else incomplete)
    rows = curve if where == "training" else incomplete
    for method in ("transform", "score_samples", "score", "impute"):
        assert np.isfinite(getattr(model, method)(rows)).all(), method
    assert get_tags(model).input_tags.allow_nan


@pytest.mark.parametrize("epochs", [0, 3])
@pytest.mark.parametrize(
    "parameters",
    [{}, {"ordered": True}, {"start": "random"}, {"start": "random", "encoder": linear, "decoder": linear}],
)
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_samples_of_nothing_are_imputed_by_means(estimator, parameters, epochs, curve):
    incomplete = with_missing(curve[:120])
    incomplete[[3, 50, 51]] = np.nan
    model = estimator(2, max_iter=epochs, random_state=0, **parameters).fit(incomplete)
    imputed = model.impute(incomplete)
    np.testing.assert_allclose(imputed[[3, 50, 51]], np.tile(np.nanmean(incomplete, axis=0), (3, 1)))
    assert np.isfinite(imputed).all()
    assert np.isfinite(model.transform(incomplete)).all()
    if estimator is VAEGenerator:
        assert (model.transform(incomplete)[3] == 0).all()  # the mean of the prior


OPTIONS = [
    *(estimator(2) for estimator in ESTIMATORS),
    AutoencoderTransformer("auto", loss="huber"),
    VAEGenerator(2, conditional=True),
    VAEGenerator(2, likelihood="auto"),
    VAEGenerator(2, ordered=True),
]
FORMS = {"array": np.asarray, "tensor": torch.from_numpy, "frame": pd.DataFrame, "file": None}
# Samples are left out before the estimator's options matter: each form has weights with every other one.
WEIGHTED = [
    pytest.param(form, model, (i + j) % 2 == 1, id=f"{name}-{model!r}-{(i + j) % 2 == 1}")
    for i, (name, form) in enumerate(FORMS.items())
    for j, model in enumerate(OPTIONS)
]


@pytest.mark.parametrize(("form", "model", "weighted"), WEIGHTED)
def test_samples_of_nothing_count_for_nothing_in_training(form, model, weighted, curve, tmp_path, monkeypatch):
    X, y, weights = with_missing(curve[:60]), np.arange(60) % 3 % 2, 1 + np.arange(60) % 2
    X[[0, 50, 51]] = np.nan
    kept = np.delete(np.arange(60), [0, 50, 51])

    def fit(index):
        samples = X[index]
        if form is None:
            np.save(tmp_path / "X.npy", samples)
            samples = np.load(tmp_path / "X.npy", mmap_mode="r")
        else:
            samples = form(samples)
        return clone(model).fit(samples, y[index], sample_weight=weights[index] if weighted else None)

    model = clone(model).set_params(max_iter=2, random_state=0)
    monkeypatch.setattr("skae.data.rows.STREAMED_FROM", 2**7)
    found, expected = fit(np.arange(60)), fit(kept)
    np.testing.assert_array_equal(found.transform(curve), expected.transform(curve))
    assert found.loss_curve_ == expected.loss_curve_


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_batch_of_nothing_changes_nothing(estimator, curve):
    model = estimator(2, random_state=0).partial_fit(with_missing(curve))
    before, losses = model.transform(curve), list(model.loss_curve_)
    assert model.partial_fit(np.full((5, 5), np.nan)) is model
    np.testing.assert_array_equal(model.transform(curve), before)
    assert model.loss_curve_ == losses
    few = np.full((5, 5), np.nan)
    few[0] = 1
    for method in (estimator(1).fit, estimator(1).partial_fit):
        with pytest.raises(ValueError, match=r"X has values in 1 sample\(s\), but at least 2 are needed"):
            method(few)


def test_the_score_of_samples_of_nothing_is_no_number(curve):
    assert np.isnan(AutoencoderTransformer(max_iter=0).fit(curve).score(np.full((3, 5), np.nan)))


@pytest.mark.parametrize("likelihood", ["poisson", "negative_binomial", "multinomial"])
def test_counts_of_nothing_are_imputed_by_mean_counts(likelihood):
    X = np.random.RandomState(0).poisson([2.0, 5.0, 9.0], size=(80, 3)).astype(float)
    X[7] = np.nan
    imputed = VAEGenerator(1, likelihood=likelihood, max_iter=2, random_state=0).fit(X).impute(X)[7]
    np.testing.assert_allclose(imputed, np.nanmean(X, axis=0))


@pytest.mark.parametrize(
    "model", [AutoencoderTransformer(loss="auto"), AutoencoderTransformer(), VAEGenerator(likelihood="auto")], ids=repr
)
def test_rows_of_nothing_in_a_table_get_typical_values(model, curve):
    """Means of numbers, or medians where a quantile map encodes them, and the most frequent category."""
    table = pd.DataFrame({"t": curve[:, 0], "word": np.where(curve[:, 2] > -0.5, "up", "down")}).astype(object)
    table.loc[[3, 9]] = np.nan
    table["t"] = table["t"].astype(float)
    imputed = clone(model).set_params(n_components=1, max_iter=2, random_state=0).fit(table).impute(table)
    typical = table["t"].median() if isinstance(model, VAEGenerator) else table["t"].mean()
    assert imputed["t"][3] == pytest.approx(typical, abs=0.05)
    assert imputed["word"][9] == "up"


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_without_missing_values_the_encoder_gets_no_mask(estimator, curve):
    module = estimator(2, max_iter=0).fit(curve).net_.module_
    assert module.encoder.path.in_features == 5
    assert estimator(2, max_iter=0).fit(with_missing(curve)).net_.module_.encoder.path.in_features == 10


def test_a_code_of_an_incomplete_row_is_the_exact_posterior_mean_of_the_linear_model(factors):
    model = VAEGenerator(2, max_iter=0).fit(factors)
    rows = with_missing(factors[:20], 0.4)
    loadings, noise = model.components_.T, model.noise_variance_
    for code, row in zip(model.transform(rows), rows, strict=True):
        seen = ~np.isnan(row)
        weighted = loadings[seen] / noise[seen, None]
        precision = np.eye(2) + weighted.T @ loadings[seen]
        exact = np.linalg.solve(precision, weighted.T @ (row - model.mean_)[seen])
        np.testing.assert_allclose(code, exact, atol=0.02)


@pytest.mark.usefixtures("exact_estimates")
def test_a_score_is_a_bound_of_what_is_observed(factors):
    model = VAEGenerator(2, max_iter=0).fit(factors)
    rows = with_missing(factors[:50], 0.4)
    covariance = model.components_.T @ model.components_ + np.diag(model.noise_variance_)
    exact = [
        multivariate_normal(model.mean_[seen], covariance[np.ix_(seen, seen)]).logpdf(row[seen])
        for row, seen in zip(rows, ~np.isnan(rows), strict=True)
    ]
    elbo, tighter = model.score_samples(rows), model.log_likelihood(rows, n_draws=2000)
    assert (elbo <= np.array(exact) + 1e-6).all()
    assert np.mean(exact - elbo) < 0.3
    assert 0 < np.mean(exact - tighter) < 0.1


@pytest.mark.usefixtures("exact_estimates")
def test_a_missing_value_is_imputed_by_its_conditional_mean(factors):
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


@pytest.mark.usefixtures("exact_estimates")
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_imputing_beats_column_means_and_leaves_what_is_observed(estimator, factors):
    factors = factors[:250]
    incomplete = with_missing(factors)
    filled = estimator(2, max_iter=10, random_state=0).fit(incomplete).impute(incomplete)
    missing = np.isnan(incomplete)
    np.testing.assert_array_equal(filled[~missing], incomplete[~missing])
    error = ((filled - factors) / factors.std(axis=0))[missing]
    assert np.square(error).mean() < 0.5


@pytest.mark.parametrize("share", [0.1, 0.4])
def test_the_start_is_estimated_from_what_is_observed(share, factors):
    X = factors / factors.std(axis=0)
    truth = PCA(2).fit(X).components_
    model = AutoencoderTransformer(2, max_iter=0, random_state=0).fit(with_missing(X, share))
    overlap = np.linalg.svd(truth @ np.linalg.qr(model.components_.T)[0])[1]
    assert overlap.min() > 0.98


def test_codes_of_complete_rows_do_not_depend_on_others_that_are_incomplete(curve):
    model = AutoencoderTransformer(2, max_iter=5, random_state=0).fit(curve)
    mixed = np.vstack([with_missing(curve[:10], 0.5), curve[10:20]])
    np.testing.assert_allclose(model.transform(mixed)[10:], model.transform(curve[10:20]), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_row_without_values_is_the_mean_row(estimator, curve):
    model = estimator(2, max_iter=0).fit(curve)
    np.testing.assert_allclose(model.impute([[np.nan] * 5])[0], curve.mean(axis=0), atol=0.3)
    assert np.isfinite(model.score_samples([[np.nan] * 5])).all()


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_best_loss_is_that_of_the_validation_set(estimator, curve):
    validation, training = np.split(with_missing(curve), [50])
    model = estimator(2, max_iter=0, random_state=0).fit(training, X_val=validation)
    is_vae = estimator is VAEGenerator
    expected = -model.score(validation) if is_vae else reconstruction_error(model, validation)
    assert model.best_loss_ == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("parameters", [{}, {"ordered": True}, {"start": "random"}])
def test_a_pickle_fills_as_before(estimator, parameters, curve):
    incomplete = with_missing(curve[:120])
    model = estimator(2, max_iter=2, random_state=0, **parameters).fit(incomplete)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).impute(incomplete), model.impute(incomplete))


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("parameters", [{}, {"encoder": torch.nn.Linear, "start": "random"}])
def test_a_later_pass_may_be_the_first_with_missing_values(estimator, parameters, curve):
    model = estimator(2, random_state=0, **parameters)
    for rows in (curve[:100], with_missing(curve[100:200]), curve[200:]):
        model.partial_fit(rows)
    assert np.isfinite(model.loss_curve_).all()
    assert np.isfinite(model.score(with_missing(curve)))


def test_images_may_have_missing_values(monkeypatch):
    monkeypatch.setattr(
        "skae._fitted._HIDDEN_SAMPLES", (50, 50)
    )  # whose imputation, by 100 images each, takes a second
    images = with_missing(np.random.RandomState(0).normal(size=(20, 128)))
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
        model.fit(with_missing(curve))
        assert np.isfinite(model.transform(with_missing(curve))).all()
        assert not seen[-1]


def test_counts_and_bits_may_have_missing_values(curve):
    curve = curve[:120]
    counts = with_missing(np.floor(np.exp(curve / 2 + 1)))
    filled = VAEGenerator(2, likelihood="poisson", max_iter=3, random_state=0).fit(counts).impute(counts)
    assert (filled >= 0).all()
    bits = with_missing((curve > 0).astype(float))
    model = VAEGenerator(2, likelihood="bernoulli", max_iter=3, random_state=0).fit(bits)
    assert ((model.impute(bits) >= 0) & (model.impute(bits) <= 1)).all()
    (drawn,) = model.impute(bits, n_draws=1, random_state=0)
    assert set(np.unique(drawn)) == {0, 1}


def test_dataframes_come_back_with_their_index(curve):
    frame = pd.DataFrame(with_missing(curve), columns=list("abcde"), index=np.arange(300) + 7)
    model = VAEGenerator(2, max_iter=1, random_state=0).fit(frame)
    filled = model.impute(frame)
    assert list(filled) == list(frame)
    assert filled.index.equals(frame.index)
    assert not filled.isna().any(axis=None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of scikit-learn, that a list has no names
        of_list = model.impute(frame.to_numpy().tolist())
    np.testing.assert_array_equal(of_list, filled)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_the_search_takes_missing_values(estimator, curve):
    incomplete = with_missing(curve)
    search = LatentSizeCV(estimator(max_iter=2, random_state=0), (1, 2), cv=2).fit(incomplete)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert np.isfinite(search.impute(incomplete)).all()


def test_errors_of_pca_with_missing_values_are_those_of_the_linear_start(curve):
    model = AutoencoderTransformer(max_iter=0, random_state=0)
    results = LatentSizeCV(model, (1, 2), cv=2).fit(with_missing(curve)).cv_results_
    np.testing.assert_allclose(results["mean_pca_error"], results["mean_test_error"])


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_rows_without_values_do_no_harm_in_validation_or_training(estimator, curve):
    nothing = np.full((1, 5), np.nan)
    model = estimator(2, max_iter=2, random_state=0).fit(curve, X_val=np.vstack([with_missing(curve[:9]), nothing]))
    assert np.isfinite(model.best_loss_)
    passes = estimator(2, random_state=0).partial_fit(curve).partial_fit(nothing)
    assert np.isfinite(passes.transform(curve)).all()


def test_a_mask_that_never_varies_never_counts(curve):
    incomplete = curve.copy()
    incomplete[::3, 0] = np.nan
    model = AutoencoderTransformer(2, max_iter=3, random_state=0).fit(incomplete)
    correction = model.net_.module_.encoder.correction
    assert correction[0].weight[:, 5].abs().max() > 0
    assert correction[0].weight[:, 6:].abs().max() == 0


def test_every_imputation_has_codes_of_its_own(curve):
    incomplete = with_missing(curve[:100], 0.5)
    model = VAEGenerator(2, max_iter=0, random_state=0).fit(incomplete)
    first, second = model.impute(incomplete, n_draws=2, random_state=0)
    again, _ = model.impute(incomplete, n_draws=2, random_state=0)
    np.testing.assert_array_equal(first, again)
    assert (first != second)[np.isnan(incomplete)].mean() > 0.99


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


def shares_of_normal(model):
    """The weight of the Gaussian model among imputed values, for each number of components."""
    return model.net_.module_.imputation_share.numpy(force=True)


def imputed(model, X):
    """Samples imputed by the estimator, by its network alone and by the Gaussian model alone."""
    fitted, x = model._fitted, torch.from_numpy(X)
    return model.impute(X), fitted.fill_by_network(x).numpy(), fitted.fill_by_normal(x).numpy()


@pytest.mark.usefixtures("exact_estimates")
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_net_that_knows_little_leaves_imputation_to_the_gaussian_model(estimator, seed):
    X = normal_rows(seed)
    incomplete = with_missing(X, 0.1, seed)
    missing, unit = np.isnan(incomplete), X.std(axis=0)
    model = estimator(2, start="random", max_iter=1, random_state=0).fit(incomplete)
    share = shares_of_normal(model)[1]
    assert 0.9 < share <= 1
    filled, by_net, by_normal = imputed(model, incomplete)
    np.testing.assert_allclose(filled, by_net + share * (by_normal - by_net))
    np.testing.assert_array_equal(filled[~missing], incomplete[~missing])
    errors = [np.square((rows - X) / unit)[missing].mean() for rows in (filled, by_net)]
    assert errors[0] < 0.2 * errors[1]
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).impute(incomplete), filled)


@pytest.mark.usefixtures("exact_estimates")
def test_a_net_that_knows_only_its_training_samples_leaves_others_to_the_gaussian_model(monkeypatch, seed):
    X = normal_rows(seed)
    incomplete = with_missing(X, 0.1, seed)
    model = AutoencoderTransformer(2, max_iter=0, random_state=seed).fit(incomplete)
    fitted, training, all_samples = model._fitted, ArrayRows(incomplete[:500]), ArrayRows(incomplete)

    def fill_by_network(seen):
        """Impute what a training sample has, and 0 in the others."""
        seen = seen.numpy()
        nearest = np.array([np.nansum(np.abs(X - sample) / X.std(axis=0), axis=1).argmin() for sample in seen])
        return torch.from_numpy(np.where(np.isnan(seen), np.where(nearest < 500, 1, 0)[:, None] * X[nearest], seen))

    monkeypatch.setattr(fitted, "fill_by_network", fill_by_network)
    fitted.learn_imputation(training, None, SINGLE_PROCESS)
    assert shares_of_normal(model)[1] < 0.1
    fitted.learn_imputation(training, (all_samples, np.arange(500, 600)), SINGLE_PROCESS)
    assert shares_of_normal(model)[1] > 0.9


@pytest.mark.usefixtures("exact_estimates")
@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("is_passed", [False, True])
def test_on_the_validation_set_the_error_of_imputation_is_at_most_the_gaussian_models(estimator, is_passed, seed):
    incomplete = with_missing(waves(seed), 0.1, seed)
    held_out = incomplete[:60]
    model = estimator(2, max_iter=2, random_state=0).fit(incomplete[60:], X_val=held_out if is_passed else None)
    units = np.nanstd(incomplete, axis=0)
    if is_passed:
        assert shares_of_normal(model)[1] >= model._fitted._best_share(ArrayRows(held_out), np.arange(60), units) - 0.01
    assert shares_of_normal(model)[1] >= model._fitted._best_share(ArrayRows(incomplete[60:]), None, units) - 0.01


@pytest.mark.usefixtures("exact_estimates")
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_the_share_is_that_of_the_size(estimator, seed):
    X = normal_rows(seed)
    X = np.hstack([X, normal_rows(seed + 1) * [1, 1, 1, 1, 1e3, 1, 1, 1]])
    incomplete = with_missing(X, 0.1, seed)
    model = estimator(4, ordered=True, max_iter=10, random_state=0).fit(incomplete)
    missing, unit = np.isnan(incomplete), X.std(axis=0)
    for size in (1, 2, 3, 4):
        cut = model.truncate(size)
        by_net, by_normal = (
            fill(torch.from_numpy(incomplete)).numpy()
            for fill in (cut._fitted.fill_by_network, cut._fitted.fill_by_normal)
        )
        step, error = (((rows - by_net) / unit)[missing] for rows in (by_normal, X))
        best = step @ error / (step @ step)
        assert abs(shares_of_normal(model)[size - 1] - np.clip(best, 0, 1)) < (0.15 if size != 3 else 1)
        some = incomplete[:50]
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(cut)).impute(some), cut.impute(some))
    assert shares_of_normal(model)[0] > 0.9  # one code knows little of four factors


def test_the_share_of_own_modules_counts_columns_in_their_own_units(seed):
    X = normal_rows(seed)
    X = X / X.std(axis=0)
    own = {"start": "random", "encoder": torch.nn.Linear, "max_iter": 2, "random_state": 0}
    models = [AutoencoderTransformer(2, **own).fit(with_missing(X * unit, 0.1, seed)) for unit in (1, 0.25)]
    mixed = AutoencoderTransformer(2, **own).fit(with_missing(X * np.repeat([1e-3, 30], 4), 0.1, seed))
    assert min(shares_of_normal(model)[1] for model in (*models, mixed)) > 0.9


@pytest.mark.usefixtures("exact_estimates")
def test_a_net_that_knows_more_imputes_itself(seed):
    X = waves(seed)
    incomplete = with_missing(X, 0.1, seed)
    model = VAEGenerator(4, max_iter=30, random_state=0).fit(incomplete)
    assert shares_of_normal(model)[3] < 0.5
    missing, unit = np.isnan(incomplete), X.std(axis=0)
    errors = [np.square((rows - X) / unit)[missing].mean() for rows in imputed(model, incomplete)]
    assert errors[0] < 1.02 * min(errors)


def test_without_missing_values_in_training_or_an_identity_link_the_net_imputes_alone():
    X = normal_rows(0)[:150]
    holes = np.round(with_missing(np.exp(X / X.std(axis=0)), 0.1))
    own = {"start": "random", "encoder": torch.nn.Linear, "max_iter": 2, "random_state": 0}  # which takes raw rows
    for model in (
        AutoencoderTransformer(2, max_iter=2, random_state=0).fit(X),
        AutoencoderTransformer(2, loss="poisson", max_iter=2, random_state=0).fit(holes),
        VAEGenerator(2, likelihood="poisson", max_iter=2, random_state=0).fit(holes),
        VAEGenerator(2, likelihood="poisson", **own).fit(holes),
        AutoencoderTransformer(2, loss="poisson", **own).fit(holes),
    ):
        assert not shares_of_normal(model).any()
        np.testing.assert_allclose(
            model.impute(holes), model._fitted.fill_by_network(torch.from_numpy(holes)), rtol=1e-9
        )


def test_missing_values_of_columns_in_units_that_are_far_apart_are_imputed():
    rng = np.random.RandomState(0)
    X = with_missing(rng.normal(size=(60, 3)) * [1e-12, 1, 1e12])
    model = AutoencoderTransformer(1, max_iter=2, random_state=0).fit(X)
    assert np.isfinite(model.impute(X)).all()
    own = AutoencoderTransformer(
        1, start="random", encoder=torch.nn.Linear, decoder=torch.nn.Linear, max_iter=2, random_state=0
    ).fit(with_missing(rng.normal(size=(60, 3)) * 1e20))
    assert pickle.loads(pickle.dumps(own)).transform(X * 1e8).shape == (60, 1)


def test_a_mixture_of_codes_fills_rows_of_float32(seed):
    rng = np.random.RandomState(seed)
    X = np.repeat([[-6.0], [6.0]], 60, axis=0) + rng.normal(size=(120, 4))
    model = VAEGenerator(2, prior="mixture", max_iter=30, learning_rate_init=3e-3, random_state=0).fit(X.astype("f4"))
    assert model.prior_ is not None
    incomplete = with_missing(X)
    np.testing.assert_allclose(model.impute(incomplete.astype("f4")), model.impute(incomplete), atol=1e-2)


@pytest.mark.parametrize(
    "parameters", [{}, {"ordered": True}, {"start": "random"}, {"encoder": linear, "decoder": linear}]
)
@pytest.mark.parametrize(
    "model",
    [
        *(AutoencoderTransformer(loss=loss) for loss in ("squared_error", "absolute_error", "log_loss", "poisson")),
        AutoencoderTransformer(loss={0: "squared_error"}),
        *(VAEGenerator(likelihood=of) for of in ("gaussian", "bernoulli", "poisson", "negative_binomial")),
        VAEGenerator(likelihood="multinomial"),
        VAEGenerator(likelihood="auto"),
    ],
    ids=repr,
)
def test_a_column_without_values_is_filled_with_0(model, parameters):
    X = with_missing((np.random.RandomState(0).poisson(2, size=(60, 4)) > 1).astype(float))
    X[:, 2] = np.nan
    model = clone(model).set_params(max_iter=1, early_stopping=False, random_state=0, **parameters).fit(X)
    filled = [model.impute(X), model.inverse_transform(model.transform(X)), model.sample(9, random_state=0)]
    filled += model.impute(X, n_draws=2) if isinstance(model, VAEGenerator) else []
    assert all((np.asarray(rows)[:, 2] == 0).all() for rows in filled)
    assert all(np.isfinite(rows).all() for rows in filled)
