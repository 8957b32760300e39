import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.decomposition import PCA

from skae.starts import factor_analysis_start, fit_frame, likelier_start, pca_start, probabilistic_pca_start, raw_frame


@pytest.mark.parametrize("link", ["identity", "logit", "log"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_frame_centres_and_scales_with_one_number(link, dtype, seed):
    X = np.random.RandomState(seed).uniform(size=(50, 4)).astype(dtype)
    rows = fit_frame(X, link).to_net(X)
    assert rows.dtype == dtype
    np.testing.assert_allclose(rows.mean(axis=0), 0, atol=1e-5)
    assert np.square(rows).mean() == pytest.approx(1, abs=1e-5)


def test_the_frame_inverts(scaled_table):
    frame = fit_frame(scaled_table, "identity")
    np.testing.assert_allclose(frame.from_net(frame.to_net(scaled_table)), scaled_table, atol=1e-9)


@pytest.mark.parametrize("offset", [0, 1e9, -1e9])
@pytest.mark.parametrize("unit", [1e-12, 1, 1e12, 1e200, 1e-200])
def test_offset_and_unit_leave_the_net_the_same_rows(offset, unit, seed):
    X = np.random.RandomState(seed).normal(size=(60, 3))
    rows = fit_frame(X, "identity").to_net(X)
    moved = (X + offset) * unit
    # An offset of 1e9 leaves float64 seven digits of a signal of 1.
    np.testing.assert_allclose(fit_frame(moved, "identity").to_net(moved), rows, atol=1e-6 if offset else 1e-9)


def test_constant_columns_are_zero_inside_and_come_back(seed):
    X = np.random.RandomState(seed).normal(size=(30, 3))
    X[:, 1] = 0.1
    frame = fit_frame(X, "identity")
    X_new = X + 1
    assert not frame.to_net(X_new)[:, 1].any()
    assert (frame.from_net(np.ones((5, 3)))[:, 1] == 0.1).all()


def test_all_constant_rows_have_a_frame():
    frame = fit_frame(np.full((5, 2), 3.0), "identity")
    assert frame.scale == 1
    assert not frame.to_net(np.full((5, 2), 3.0)).any()


def test_the_raw_frame_changes_nothing(seed):
    X = np.random.RandomState(seed).normal(3, 2, size=(20, 4))
    frame = raw_frame(X)
    np.testing.assert_array_equal(frame.to_net(X), X)
    np.testing.assert_array_equal(frame.from_net(X.copy()), X)
    np.testing.assert_allclose(frame.mean, X.mean(axis=0))


def test_the_start_is_pca_with_unit_variance_codes(scaled_table):
    X = scaled_table - scaled_table.mean(axis=0)
    k = min(X.shape) // 2
    start = pca_start(X, k, np.random.RandomState(0))
    Z = X @ start.encoder.T
    pca = PCA(k, svd_solver="full").fit(X)
    np.testing.assert_allclose(Z * start.code_scale, pca.transform(X), atol=1e-6 * np.abs(X).max())
    np.testing.assert_allclose(
        Z @ start.decoder.T, pca.inverse_transform(pca.transform(X)), atol=1e-6 * np.abs(X).max()
    )


def test_extra_components_change_no_reconstruction(seed):
    X = np.random.RandomState(seed).normal(size=(30, 3))
    X -= X.mean(axis=0)
    start = pca_start(X, 5, np.random.RandomState(seed))
    assert np.abs(X @ start.encoder.T).min(axis=0).shape == (5,)
    assert start.encoder[3:].any(axis=1).all()
    np.testing.assert_allclose(X @ start.encoder.T @ start.decoder.T, X, atol=1e-12)


@pytest.mark.parametrize(("n_samples", "expected"), [(60, probabilistic_pca_start), (900, factor_analysis_start)])
def test_the_start_is_the_model_that_describes_rows_left_out(n_samples, expected, seed):
    """Few rows with one noise, and many with one for each column."""
    rng = np.random.RandomState(seed)
    loadings, deviation = rng.normal(size=(40, 3)), np.ones(40) if n_samples == 60 else rng.uniform(0.5, 1.5, size=40)
    X = rng.normal(size=(n_samples, 3)) @ loadings.T + deviation * rng.normal(size=(n_samples, 40))
    frame = fit_frame(X, "identity", per_column=True)
    found, other = (
        start(frame.to_net(X), frame.scale, 3, np.random.RandomState(0)) for start in (likelier_start, expected)
    )
    np.testing.assert_array_equal(found.noise, other.noise)


def test_a_column_that_is_constant_in_a_fold_has_no_say(seed):
    rng = np.random.RandomState(seed)
    X = np.hstack([rng.normal(size=(80, 30)), np.eye(80)[:, :6]])
    frame = fit_frame(X, "identity", per_column=True)
    found = likelier_start(frame.to_net(X), np.ones(36), 2, np.random.RandomState(0))
    expected = probabilistic_pca_start(frame.to_net(X), np.ones(36), 2, np.random.RandomState(0))
    np.testing.assert_array_equal(found.noise, expected.noise)


@pytest.mark.parametrize("start", [factor_analysis_start, probabilistic_pca_start])
def test_the_density_of_a_start_is_the_normal_one(start, seed):
    X = np.random.RandomState(seed).normal(size=(50, 5)) @ np.diag([1, 2, 3, 4, 5])
    frame = fit_frame(X, "identity", per_column=True)
    model = start(frame.to_net(X), frame.scale, 2, np.random.RandomState(0))
    normal = multivariate_normal(np.zeros(5), model.loadings @ model.loadings.T + np.diag(model.noise))
    np.testing.assert_allclose(model.log_density(frame.to_net(X)), normal.logpdf(frame.to_net(X)))
