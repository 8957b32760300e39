import itertools
import warnings

import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.decomposition import PCA, FactorAnalysis
from sklearn.exceptions import ConvergenceWarning

from skae import VAEGenerator, starts
from skae._streaming import LazyRows
from skae.starts import (
    LinearGaussian,
    Normal,
    factor_analysis_start,
    fit_frame,
    has_gaps,
    leading,
    likelier_start,
    n_components_for,
    n_filling,
    no_normal,
    normal_of,
    observed_normal,
    ordered_start,
    pca_start,
    probabilistic_pca_start,
    rank_of,
    raw_frame,
)


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
    assert frame.location.tolist() == [0, 0, 0, 0]
    assert frame.scale == 1
    assert frame.to_net(X) is X
    assert frame.constant.dtype == bool
    assert not frame.constant.any()


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


def with_gaps(X):
    """A copy without some entries: two columns lack whole blocks of rows."""
    X = X.copy()
    X[:2000, 1] = X[1000:, 0] = X[::7, 2] = X[5] = np.nan
    return X


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gaps_count_for_nothing_in_a_frame(dtype, seed):
    X = (np.random.RandomState(seed).normal(size=(3000, 4)) * [1, 2, 3, 0] + [5, 0, -1, 3]).astype(dtype)
    gaps = with_gaps(X)
    assert has_gaps(gaps)
    assert not has_gaps(X)
    frame = fit_frame(gaps, "identity", per_column=True)
    np.testing.assert_allclose(frame.mean, np.nanmean(gaps, axis=0, dtype=np.float64), atol=1e-6)
    np.testing.assert_allclose(frame.scale[:3], np.nanstd(gaps, axis=0, dtype=np.float64)[:3], rtol=1e-5)
    assert (frame.scale[3], frame.spread.tolist()) == (1, [1, 1, 1, 0])
    assert frame.constant.tolist() == [False, False, False, True]
    for known in (raw_frame(gaps), raw_frame(gaps, with_spread=False)):
        np.testing.assert_allclose(known.mean, frame.mean, atol=1e-6)
    np.testing.assert_allclose(raw_frame(gaps).spread, frame.scale * frame.spread, atol=1e-6)
    one = fit_frame(gaps, "identity")
    assert one.scale == pytest.approx(np.sqrt(np.square(frame.scale[:3]).mean()))
    np.testing.assert_allclose(one.spread, frame.scale * frame.spread / one.scale)


def test_links_are_those_of_shrunk_rows(seed):
    rng = np.random.RandomState(seed)
    X = np.hstack([rng.uniform(size=(50, 1)), rng.poisson(3.0, size=(50, 2)), rng.normal(size=(50, 1))])
    X[:, 2] = 4
    frame = fit_frame(X, ("logit", "log", "log", "identity"), per_column=True)
    probability, count = 0.05 + 0.9 * X[:, 0], 0.9 * X[:, 1] + 0.1 * X[:, 1].mean()
    linked = np.stack([np.log(probability / (1 - probability)), np.log(count), 0 * count, X[:, 3]], axis=1)
    np.testing.assert_allclose(frame.location[[0, 1, 3]], linked.mean(axis=0)[[0, 1, 3]])
    expected = (linked - linked.mean(axis=0)) / np.where(linked.std(axis=0) > 0, linked.std(axis=0), 1)
    np.testing.assert_allclose(frame.to_net(X), expected, atol=1e-12)
    assert frame.centre is frame.location
    for k, link in ((0, "logit"), (1, "log")):
        np.testing.assert_allclose(fit_frame(X[:, [k]], link).location, linked[:, [k]].mean(axis=0))
    back = frame.from_net(np.ones((2, 4)))
    np.testing.assert_array_equal(back, [[1, 1, 4, 1]] * 2)  # all but constants are on the link's own scale


def test_shares_are_those_of_the_row_of_all_rows_where_it_is_empty_and_of_what_is_there(seed):
    X = np.random.RandomState(seed).poisson([1.0, 5.0, 20.0, 2.0], size=(50, 4)).astype(float)
    X[:, 2] = 20
    X[0] = X[2] = X[3] = 0
    X[1, 3] = X[3, 3] = np.nan
    X[2, 1] = 1
    frame = fit_frame(X, "share")
    mean = np.nanmean(X, axis=0)
    shares = (mean + 1e-4) / (mean + 1e-4).sum()
    np.testing.assert_allclose(frame.shares, shares)
    np.testing.assert_allclose(frame.centre, np.log(shares))
    np.testing.assert_allclose(frame.scale, 1 / np.sqrt(4 * shares))
    of_rows = X / np.maximum(np.nansum(X, axis=1, keepdims=True), 1)
    of_rows[0] = shares
    of_rows[1] *= shares[:3].sum()
    of_rows[3, :3] = shares[:3]
    linked = np.log(0.9 * of_rows + 0.1 * shares)
    np.testing.assert_allclose(frame.location, np.nanmean(linked, axis=0))
    np.testing.assert_allclose(frame.spread, np.nanstd(linked, axis=0) / frame.scale)
    np.testing.assert_allclose(frame.to_net(X), (linked - frame.location) / frame.scale)
    np.testing.assert_array_equal(frame.from_net(X[4:]), X[4:])
    X[[0, 2, 3], 2] = 20
    frame = fit_frame(X, "share")  # whose constant column has shares that vary, and comes back as it is decoded
    assert (frame.scale[2], frame.spread[2]) == (1, 0)
    assert not frame.to_net(X)[:, 2].any()
    np.testing.assert_array_equal(frame.from_net(np.ones((2, 4))), 1)


def test_the_net_gets_rows_side_by_side_that_it_may_write_on():
    X = np.asfortranarray(np.random.RandomState(0).normal(size=(20, 4)))
    X.flags.writeable = False
    for frame in (fit_frame(X, "identity"), raw_frame(X)):
        rows = frame.to_net(X)
        assert rows.flags.c_contiguous
        assert rows.flags.writeable
    assert np.isnan(raw_frame(X, with_spread=False).spread).all()


def test_a_start_knows_what_it_leaves_and_the_range_of_codes(scaled_table):
    X = scaled_table - scaled_table.mean(axis=0)
    start = pca_start(X, 3, np.random.RandomState(0))
    Z = X @ start.encoder.T
    left, unit = X - Z @ start.decoder.T, np.abs(X).max()
    np.testing.assert_allclose(start.residual, np.sqrt(np.square(left).mean(axis=0)), atol=1e-9 * unit)
    np.testing.assert_allclose(start.code_range, [Z.min(axis=0), Z.max(axis=0)], atol=1e-9)
    largest = start.code_scale[0]
    np.testing.assert_allclose(Z.std(axis=0, ddof=1)[start.code_scale > 2e-4 * largest], 1, rtol=1e-6)
    assert (start.code_scale >= 1e-4 * largest).all()
    cut, dedicated = leading(start, X, 2), pca_start(X, 2, np.random.RandomState(0))
    for part, expected in zip(cut, dedicated, strict=True):
        np.testing.assert_allclose(part, expected, atol=1e-9 * unit)


def test_codes_of_rows_on_a_line_are_not_blown_up(seed):
    X = np.outer(np.random.RandomState(seed).normal(size=30), [1.0, 2.0, 3.0])
    start = pca_start(X - X.mean(axis=0), 2, np.random.RandomState(0))
    assert start.code_scale[1] == pytest.approx(1e-4 * start.code_scale[0])
    nothing = pca_start(np.zeros((5, 3)), 2, np.random.RandomState(0))
    assert (nothing.code_scale == 1).all()
    assert not nothing.residual.any()


def test_extra_components_are_of_size_one(seed):
    start = pca_start(np.eye(40) - 1 / 40, 1040, np.random.RandomState(seed))
    assert np.square(start.encoder[40:]).sum(axis=1).mean() == pytest.approx(1, abs=0.05)
    assert (start.code_scale[40:] == 1).all()


@pytest.mark.parametrize(("share", "n"), [(0.4, 1), (0.5, 2), (0.6, 2), (0.625, 3), (0.9, 5), (1.0, 5)])
def test_a_share_of_the_variance_takes_the_fewest_components_that_explain_more(share, n):
    half = np.diag([4.0, 2.0, 2.0, 2.0, 2.0])  # shares of 1/2, and 1/8 four times
    assert n_components_for(np.vstack([half, -half]), share) == n


def test_a_share_is_exceeded_and_not_met():
    assert n_components_for(np.vstack([np.eye(2), -np.eye(2)]), 0.5) == 2
    assert n_components_for(np.zeros((5, 3)), 0.5) == 1


def dense(model):
    return model.loadings @ model.loadings.T + np.diag(model.noise)


def some_model(seed, n_features=6, n_components=3):
    rng = np.random.RandomState(seed)
    loadings, noise = rng.normal(size=(n_features, n_components)), rng.uniform(0.5, 2, size=n_features)
    return starts._embed(loadings, noise, np.ones(n_features, dtype=bool), n_components)


def test_a_posterior_is_that_of_the_joint_normal(seed):
    model, X = some_model(seed), np.random.RandomState(seed + 1).normal(size=(7, 6))
    matrix, variance = model.posterior()
    np.testing.assert_allclose(matrix, np.linalg.solve(dense(model), model.loadings).T)
    np.testing.assert_allclose(np.diag(variance), np.eye(3) - matrix @ model.loadings, atol=1e-12)
    signal = (model.loadings / model.noise[:, None]).T @ model.loadings
    assert (np.diff(np.diag(signal)) < 0).all()  # the strongest first
    np.testing.assert_allclose(signal, np.diag(np.diag(signal)), atol=1e-12)
    assert (model.loadings[np.abs(model.loadings).argmax(axis=0), np.arange(3)] > 0).all()
    np.testing.assert_allclose(model.log_density(X), multivariate_normal(np.zeros(6), dense(model)).logpdf(X))


def test_noise_is_gained_from_components(seed):
    model = LinearGaussian(np.linalg.qr(np.random.RandomState(seed).normal(size=(6, 3)))[0] * [3, 2, 0.1], np.ones(6))
    noisier = model.noisier(1.5)
    np.testing.assert_allclose(noisier.noise, 1.5)
    lengths = np.square(noisier.loadings).sum(axis=0)
    np.testing.assert_allclose(lengths, [8.5, 3.5, 0], atol=1e-12)
    lengths = np.square(model.noisier(1.004).loadings).sum(axis=0)
    np.testing.assert_allclose(lengths, [8.996, 3.996, 0.006], atol=1e-12)


def test_a_posterior_of_a_smaller_model_is_told_by_that_of_the_larger(seed):
    rng = np.random.RandomState(seed)
    larger = LinearGaussian(np.linalg.qr(rng.normal(size=(6, 4)))[0] * [3, 2, 0.5, 0], np.full(6, 0.5))
    other = LinearGaussian(larger.loadings[:, :3] * [0.5, 0.8, 0.3], 1.7 * larger.noise)
    for size, smaller in ((2, larger.leading(2, 6)), (3, other), (4, larger.noisier(1.2))):
        ratio, gained = smaller.nearer_to_prior(larger)
        (matrix, variance), (before, variance_before) = smaller.posterior(), larger.posterior()
        np.testing.assert_allclose(matrix, ratio[:, None] * before[:size], atol=1e-12)
        np.testing.assert_allclose(gained, np.log(variance / variance_before[:size]), atol=1e-12)
    assert ratio[3] == 1


def test_what_fills_gaps_is_the_normal_given_the_rest(seed):
    rng, model = np.random.RandomState(seed), some_model(seed)
    normal, location = model.normal(), rng.normal(size=6)
    np.testing.assert_array_equal(normal.noise, model.noise)
    assert (LinearGaussian(model.loadings, 0 * model.noise).normal().noise == 1e-3).all()
    assert not normal.location.any()
    normal, X = normal._replace(location=location), rng.normal(size=(5, 6))
    X[:, 1] = X[0] = np.nan
    there = [0, 2, 3, 4, 5]
    mean, covariance = normal.codes(X)
    gain = np.linalg.solve(dense(model)[there][:, there], model.loadings[there]).T
    np.testing.assert_allclose(mean[1:], (X - location)[1:, there] @ gain.T)
    np.testing.assert_allclose(covariance[1:], np.broadcast_to(np.eye(3) - gain @ model.loadings[there], (4, 3, 3)))
    np.testing.assert_allclose(mean[0], 0)
    np.testing.assert_allclose(covariance[0], np.eye(3), atol=1e-12)
    cut = normal.leading(2)
    np.testing.assert_array_equal(cut.loadings, normal.loadings[:, :2])
    np.testing.assert_allclose(np.diag(dense(cut)), np.diag(dense(normal)))
    assert cut.location is location
    np.testing.assert_allclose(normal.leading(1).noise, np.diag(dense(normal)) - normal.loadings[:, 0] ** 2)


def test_gaps_are_drawn_from_the_normal_given_the_rest_and_in_range(seed):
    model, rng = some_model(seed), np.random.RandomState(seed)
    X = np.tile(rng.normal(size=6), (6000, 1))
    X[:, :2], X[0, :2], X[1, :2] = np.nan, 40, -40
    drawn = Normal(np.ones(6), model.loadings, model.noise).draw(X, rng)
    np.testing.assert_array_equal(drawn[:, 2:], X[:, 2:])
    covariance = dense(model)
    gain = np.linalg.solve(covariance[2:, 2:], covariance[2:, :2]).T
    np.testing.assert_allclose(drawn[2:, :2].mean(axis=0), 1 + gain @ (X[0, 2:] - 1), atol=0.15)
    np.testing.assert_allclose(np.cov(drawn[2:, :2].T), covariance[:2, :2] - gain @ covariance[2:, :2], atol=0.25)
    X[0, :2], X[1, :2] = 0.01, -0.01
    assert np.abs(Normal(np.ones(6), model.loadings, model.noise).draw(X, rng)[:, :2]).max() == 0.01


def test_noise_of_a_start_is_what_it_leaves_or_a_thousandth(seed):
    X = np.random.RandomState(seed).normal(size=(50, 4)) * [3, 2, 1, 1e-6]
    X[:, 3] = 0
    start = pca_start(X - X.mean(axis=0), 2, np.random.RandomState(0))
    spread = X.std(axis=0)
    normal = start.normal(spread)
    np.testing.assert_allclose(normal.noise[:3], np.maximum(start.residual**2, 1e-3 * spread**2)[:3])
    assert normal.noise[3] == 1
    assert normal.loadings is start.decoder
    assert not normal.location.any()


def test_without_a_model_gaps_are_filled_with_the_mean(seed):
    X = np.random.RandomState(seed).normal(3, 1, size=(50, 4))
    for frame, location in ((raw_frame(X), X.mean(axis=0)), (fit_frame(X, "identity"), np.zeros(4))):
        normal = no_normal(frame)
        np.testing.assert_allclose(normal.location, location)
        assert (normal.loadings.shape, normal.loadings.any(), normal.noise.tolist()) == ((4, 1), False, [1] * 4)
    normal = normal_of(X, 0, None)
    np.testing.assert_allclose(normal.location, X.mean(axis=0))
    assert (normal.loadings.shape, normal.loadings.any(), normal.noise.tolist()) == ((4, 1), False, [1] * 4)
    normal = normal_of(X, 2, None)
    np.testing.assert_allclose(normal.location, X.mean(axis=0))
    np.testing.assert_allclose(dense(normal), PCA(2).fit(X).get_covariance())


def test_as_many_components_fill_gaps_as_the_net_has_within_bounds():
    asked = [(2, 100), (20, 100), (50, 100), (2, 5), (2, 1)]
    assert [n_filling(*numbers) for numbers in asked] == [20, 20, 32, 4, 1]


def test_em_is_at_home_with_no_gaps_in_any_unit_and_stops_at_its_best(seed, monkeypatch):
    rng = np.random.RandomState(seed)
    X = rng.normal(size=(2000, 2)) @ rng.normal(size=(2, 6)) + 0.5 * rng.normal(size=(2000, 6))
    monkeypatch.setattr(starts, "_MOST_ROUNDS", 10**6)  # it stops by itself
    whole = dense(observed_normal(X, 2, np.random.RandomState(0)))
    np.testing.assert_allclose(whole, np.cov(X.T), atol=0.1)
    gaps = np.where(rng.uniform(size=X.shape) < 0.2, np.nan, X)
    model = observed_normal(gaps, 2, np.random.RandomState(0))
    np.testing.assert_allclose(dense(model), np.cov(X.T), atol=0.3)
    np.testing.assert_allclose(model.location, X.mean(axis=0), atol=0.1)
    unit = 10.0 ** np.arange(-3, 3)
    moved = observed_normal(gaps * unit + 7, 2, np.random.RandomState(0))
    np.testing.assert_allclose(moved.location, model.location * unit + 7)
    np.testing.assert_allclose(dense(moved), dense(model) * np.outer(unit, unit), rtol=1e-6, atol=1e-9)
    few = observed_normal(gaps[:8], 5, np.random.RandomState(0))
    assert few.loadings.shape[1] <= 5
    assert np.isfinite(dense(few)).all()


def test_pca_in_units_is_the_covariance_it_has_there(seed):
    rng = np.random.RandomState(seed)
    X, unit = rng.normal(size=(50, 5)) @ rng.normal(size=(5, 5)), rng.uniform(0.5, 2, size=5)
    X[:, 2] = 0
    X -= X.mean(axis=0)
    model, there = probabilistic_pca_start(X, unit, 2, None), [0, 1, 3, 4]
    expected = PCA(2).fit((X * unit)[:, there]).get_covariance() / np.outer(unit, unit)[there][:, there]
    np.testing.assert_allclose(dense(model)[there][:, there], expected)
    assert model.noise[2] == 1
    assert not model.loadings[2].any()
    tiny = probabilistic_pca_start(X, 1e-200 * unit, 2, None)
    np.testing.assert_allclose(dense(tiny), dense(model))
    assert not probabilistic_pca_start(1e-200 * X, unit, 2, None).loadings.any()  # too small for squares
    zeros = np.vstack([X, -X, 0 * X[:1]])
    assert probabilistic_pca_start(zeros, unit, 2, None).loadings[there].any(axis=1).all()
    nothing = probabilistic_pca_start(0 * X, unit, 2, None)
    assert (nothing.loadings.shape, nothing.loadings.any(), nothing.noise.tolist()) == ((5, 2), False, [1] * 5)
    assert (probabilistic_pca_start(X, unit, 4, None).noise >= 1e-12).all()


def test_an_ordered_start_leaves_a_direction_and_some_noise(seed):
    X = np.random.RandomState(seed).normal(size=(50, 4)) * [3, 2, 1, 0]
    X -= X.mean(axis=0)
    assert rank_of(X) == 3
    assert rank_of(X[:2]) == 2
    model = ordered_start(X, 6, 1e-3, None)
    assert model.loadings.shape == (4, 6)
    assert model.loadings.any(axis=0).tolist() == [True, True, False, False, False, False]
    np.testing.assert_allclose(dense(model)[:3, :3], PCA(2).fit(X[:, :3]).get_covariance())
    noisy = ordered_start(X, 2, 1.7, None)
    np.testing.assert_allclose(noisy.noise, [1.7, 1.7, 1.7, 1.7 / model.noise[0]])
    along = model.loadings[:, :2]
    np.testing.assert_allclose(along.T @ dense(noisy) @ along, along.T @ dense(model) @ along, atol=1e-9)
    for n_rows, n_components in ((3, 1), (4, 2)):
        few = ordered_start(X[:n_rows] - X[:n_rows].mean(axis=0), 6, 1e-3, None)
        assert few.loadings.any(axis=0).sum() == n_components
    assert ordered_start(X, 1, 1e-3, None).loadings.shape == (4, 1)
    X[0] = 0  # columns vary all the same
    assert rank_of(X) == 3
    np.testing.assert_array_equal(ordered_start(X, 2, 1.7, None).noise[:3], 1.7)
    assert ordered_start(0 * X, 2, 1e-3, None).loadings.shape == (4, 2)


def test_factor_analysis_is_scikit_learns_whatever_the_number_of_rows(seed):
    rng = np.random.RandomState(seed)
    loadings, deviation = rng.normal(size=(6, 2)), rng.uniform(0.3, 1.5, size=6)
    for n in (13, 500):
        X = rng.normal(size=(n, 2)) @ loadings.T + deviation * rng.normal(size=(n, 6))
        frame = fit_frame(X, "identity", per_column=True)
        rows = frame.to_net(X)
        found = factor_analysis_start(rows, frame.scale, 2, None)
        expected = FactorAnalysis(2, svd_method="lapack", tol=1e-6, max_iter=3000).fit(rows)
        assert found.log_density(rows).mean() > expected.score(rows) - 1e-3
    np.testing.assert_allclose(dense(found), expected.get_covariance(), atol=1e-2)
    assert starts._same_covariance(rows).shape == (12, 6)
    np.testing.assert_allclose(np.cov(starts._same_covariance(rows).T, ddof=0), np.cov(rows.T, ddof=0), atol=1e-12)
    np.testing.assert_allclose(starts._same_covariance(rows).mean(axis=0), 0, atol=1e-12)


def test_a_column_that_others_explain_keeps_some_noise(seed):
    X = np.random.RandomState(seed).normal(size=(200, 4))
    X = np.hstack([X, X[:, :1]])
    X = fit_frame(X, "identity", per_column=True).to_net(X)
    assert factor_analysis_start(X, np.ones(5), 2, None).noise.min() == pytest.approx(1e-6)


@pytest.mark.parametrize(
    ("shape", "factored"),
    [((50, 4), True), ((50, 1), True), ((5, 4), True), ((4, 4), False), ((300, 200), True), ((300, 201), False)],
)
def test_wide_tables_and_many_columns_are_not_factored(shape, factored):
    assert starts._can_be_factored(np.ones(shape)) == factored
    assert not starts._can_be_factored(np.zeros(shape))
    assert starts._can_be_factored(np.eye(50)[:, :4])


@pytest.mark.parametrize(
    ("shape", "n_components", "solver"),
    [
        (
            (
                1000,
                1000,
            ),
            10,
            "full",
        ),
        ((1001, 1000), 10, "covariance_eigh"),
        ((10**7, 2000), 10, "covariance_eigh"),
        ((10**7, 2001), 10, "randomized"),
        ((1500, 3000), 100, "randomized"),
        ((1500, 3000), 300, "full"),
        ((1000, 4000), 10, "full"),
    ],
)
def test_solvers_are_exact_where_one_takes_seconds(shape, n_components, solver):
    assert starts._solver(*shape, n_components) == solver


def test_what_overflows_is_left_to_who_refuses_it_by_name():
    """No warning: pytest would make an error of one."""
    for rows in ([[1e308], [1e308]], [[1e308], [-1e308]], [[np.inf], [-np.inf]]):
        assert not has_gaps(np.array(rows))
        starts._moments(np.array(rows))


@pytest.mark.parametrize("found", [True, False])
def test_of_lazy_rows_it_is_known_whether_they_have_gaps(found):
    rows = LazyRows(np.zeros((3, 2)))
    rows.has_gaps = found
    assert has_gaps(rows) is found


def test_moments_of_float32_are_those_of_float64():
    X = np.array([[1.0], [1e8], [-1e8]], dtype=np.float32)
    assert fit_frame(X, "identity").mean[0] == pytest.approx(1 / 3, abs=1e-7)
    assert normal_of(X, 0, None).location[0] == pytest.approx(1 / 3, abs=1e-7)


def test_blocks_of_rows_change_nothing(seed, monkeypatch):
    X = np.random.RandomState(seed).normal(3, 1, size=(40, 4))
    X[:30, 1] = X[10:, 0] = X[5] = np.nan
    start = pca_start(np.nan_to_num(X), 2, np.random.RandomState(0))
    frames = [raw_frame(X), fit_frame(X, "identity")]
    for name, numbers in (("_CACHED", 3), ("_BLOCK", 7)):
        monkeypatch.setattr(starts, name, numbers)
    monkeypatch.setattr("skae._streaming._READ", 28)
    rows = LazyRows(X)
    rows.has_gaps, rows._read = True, lambda which: X[which]
    for one, frame in zip((raw_frame(rows), fit_frame(rows, "identity")), frames, strict=True):
        np.testing.assert_allclose(one.mean, frame.mean)
        np.testing.assert_allclose(one.spread, frame.spread)
    np.testing.assert_allclose(pca_start(np.nan_to_num(X), 2, np.random.RandomState(0)).residual, start.residual)


@pytest.mark.parametrize("start", [pca_start, lambda X, k, rng: probabilistic_pca_start(X, np.ones(100), k, rng)])
def test_a_start_is_exact_where_pca_itself_would_draw_and_draws_from_what_it_is_given(start, seed, monkeypatch):
    X = np.random.RandomState(seed).normal(size=(600, 100))
    X -= X.mean(axis=0)
    found = start(X, 1, np.random.RandomState(0))[0].reshape(-1)
    direction = np.linalg.svd(X, full_matrices=False)[2][0]
    assert abs(found @ direction) == pytest.approx(np.linalg.norm(found), rel=1e-9)
    monkeypatch.setattr(starts, "_solver", lambda *_: "randomized")
    one, two, other = (start(X, 3, np.random.RandomState(k))[0] for k in (0, 0, 1))
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(one, other)


def test_a_start_is_told_in_float64(seed):
    X = np.random.RandomState(seed).normal(size=(30, 3)).astype(np.float32)
    start = pca_start(X - X.mean(axis=0), 2, np.random.RandomState(0))
    assert start.encoder.dtype == start.decoder.dtype == np.float64


def test_leading_components_are_probabilistic_pca_of_so_many(seed):
    X = np.random.RandomState(seed).normal(size=(50, 6)) * [5, 4, 3, 2, 1, 0.5]
    X -= X.mean(axis=0)
    most, few = (probabilistic_pca_start(X, np.ones(6), k, None) for k in (4, 2))
    for part, expected in zip(most.leading(2, 6), few, strict=True):
        np.testing.assert_allclose(part, expected, atol=1e-9)
    for part, expected in zip(few.leading(2, 2), few, strict=True):
        np.testing.assert_allclose(part, expected)


def test_entries_that_are_there_stay_as_they_are(seed):
    rng, model = np.random.RandomState(seed), some_model(seed)
    X = rng.normal(size=(50, 6))
    gaps = np.where(rng.uniform(size=X.shape) < 0.3, np.nan, X)
    drawn = model.normal().draw(gaps, rng)
    np.testing.assert_array_equal(drawn[~np.isnan(gaps)], X[~np.isnan(gaps)])
    assert not np.isnan(drawn).any()


def test_columns_that_do_not_vary_and_those_that_nothing_is_known_of_are_filled_with_a_constant(seed):
    X = np.random.RandomState(seed).normal(size=(50, 5))
    X[:, 1], X[:, 2], X[:, 4] = 7, np.nan, 3 * X[:, 3]
    model = observed_normal(X, 2, np.random.RandomState(0))
    assert all(np.isfinite(part).all() for part in model)
    np.testing.assert_allclose(model.location[[1, 2]], [7, 0], atol=1e-9)
    assert 0 < model.noise[1] <= 1e-3
    assert 0 < model.noise[4] / np.var(X[:, 4]) <= 1e-3  # the least, where others explain all
    complete = np.delete(X, 2, axis=1)
    assert normal_of(complete, 1, None).noise[1] == 1


def test_components_that_few_entries_speak_for_vanish(seed):
    rng = np.random.RandomState(seed)
    X = rng.normal(size=(300, 1)) @ rng.normal(size=(1, 8)) + rng.normal(size=(300, 8))
    X[rng.uniform(size=X.shape) < 0.3] = np.nan
    X = X[~np.isnan(X).all(axis=1)]
    lengths = np.linalg.svd(observed_normal(X, 5, np.random.RandomState(0)).loadings)[1]
    assert lengths[0] > 1
    assert lengths[-1] < 0.01  # 0.3 and more without a prior


@pytest.mark.parametrize(
    ("n_columns", "better", "rows_asked"),
    [
        (6, "_normal_by_codes", [300, 300, 500]),
        (6, "_normal_by_covariance", [300, 300, 300]),
        (201, "_normal_by_codes", [20]),  # of many columns there is no choice
    ],
)
def test_em_asks_as_many_rows_as_it_may(n_columns, better, rows_asked, seed, monkeypatch):
    X = np.random.RandomState(seed).normal(size=(500, n_columns))
    X[::7, 2] = np.nan
    asked = []
    originals = {name: getattr(starts, name) for name in ("_normal_by_codes", "_normal_by_covariance")}
    for name in originals:

        def fit(X, n_components, fit=originals[name], off=0 if name == better else 9):
            asked.append(len(X))
            model = fit(X, n_components=n_components)
            return model._replace(location=model.location + off)

        monkeypatch.setattr(starts, name, fit)
    monkeypatch.setattr(starts, "_MORE_NUMBERS", 6**2 * 300)
    monkeypatch.setattr(starts, "_MOST_NUMBERS", 6**2 * 500 if n_columns == 6 else 201 * 20)
    observed_normal(X, 2, np.random.RandomState(0))
    assert asked == rows_asked


def test_factors_are_the_likeliest_given_the_noise_and_the_prior(seed):
    rng = np.random.RandomState(seed)
    noise, weight = rng.uniform(0.5, 2, size=5), 0.1
    covariance = np.cov(rng.normal(size=(5, 200)) * [[1], [2], [3], [4], [5]])
    loadings, new_noise = starts._factors(covariance, noise, 5, weight)
    values = np.linalg.eigvalsh(covariance / np.sqrt(np.outer(noise, noise)))
    lengths = np.sort(np.square(loadings / np.sqrt(noise)[:, None]).sum(axis=0))
    lengths = np.pad(lengths, (5 - len(lengths), 0))
    for value, length in zip(values, lengths, strict=True):
        u = np.geomspace(1e-4, 100, 100_000)
        cost = np.log1p(u) + value / (1 + u) + weight * np.log(u)
        inside = np.flatnonzero((cost[1:-1] < cost[:-2]) & (cost[1:-1] < cost[2:])) + 1
        assert length == pytest.approx(u[inside[0]] if len(inside) else 0, rel=1e-3)
    z = np.linalg.inv(np.eye(loadings.shape[1]) + loadings.T / noise @ loadings) @ (loadings.T / noise)
    rest = np.eye(5) - loadings @ z
    expected = np.diag(rest @ covariance @ rest.T + loadings @ (np.eye(len(z)) - z @ loadings) @ loadings.T)
    np.testing.assert_allclose(new_noise, expected)
    none, all_noise = starts._factors(np.diag(noise), noise, 5, weight)
    assert not none.any()
    np.testing.assert_allclose(all_noise, noise)


def test_em_by_covariance_finds_the_normal_that_rows_are_drawn_from(seed):
    rng = np.random.RandomState(seed)
    X = rng.normal(size=(2000, 2)) @ rng.normal(size=(2, 6)) + 0.5 * rng.normal(size=(2000, 6)) + 3
    gaps = np.where(rng.uniform(size=X.shape) < 0.2, np.nan, X)
    model = starts._normal_by_covariance(gaps, 5)
    np.testing.assert_allclose(model.location, X.mean(axis=0), atol=0.1)
    np.testing.assert_allclose(dense(model), np.cov(X.T), atol=0.3)
    np.testing.assert_allclose(model.noise, 0.25, atol=0.15)


def test_columns_that_nearly_repeat_each_other_are_filled_by_more_components(seed):
    rng = np.random.RandomState(seed)
    wavelengths = np.linspace(0, 1, 40)
    X = sum(rng.normal(size=(150, 1)) * 2.0**-k * np.cos((k + 1) * wavelengths) for k in range(15))
    X += 1e-4 * rng.normal(size=X.shape)
    gaps = np.where(rng.uniform(size=X.shape) < 0.1, np.nan, X)
    model, missing = observed_normal(gaps, 2, np.random.RandomState(0)), np.isnan(gaps)
    assert model.noise.min() < 1e-3 * X.var(axis=0).min()  # less than the other has
    errors = [np.square(fit.expected(gaps) - X)[missing].mean() for fit in (model, starts._normal_by_codes(gaps, 10))]
    assert errors[0] < 0.5 * errors[1]


def test_hidden_entries_leave_each_column_some(seed):
    X = np.full((40, 3), np.nan)
    X[:, 0], X[0, 1], X[:20, 2] = 1, 1, 1
    hidden = np.array([starts.hide(X, np.random.RandomState(k)) for k in range(50)])
    assert not hidden[:, :, 1].any()
    assert not hidden[:, np.isnan(X)].any()
    assert 0.4 < hidden[:, ~np.isnan(X)].mean() < 0.6  # as many as are missing, but half at most


def test_em_finds_a_mean_that_gaps_hide(seed):
    x = np.random.RandomState(seed).normal(size=(2000, 1))
    X = x + 0.3 * np.random.RandomState(seed + 1).normal(size=(2000, 3))
    X[X[:, 1] + X[:, 2] > 0, 0] = np.nan
    assert np.nanmean(X[:, 0]) < -0.5
    assert observed_normal(X, 1, np.random.RandomState(0)).location[0] == pytest.approx(0, abs=0.1)


def test_the_sign_of_a_component_is_that_of_its_largest_loading(seed):
    loadings = np.random.RandomState(seed).normal(size=(6, 2))
    one, two = (starts._embed(sign * loadings, np.ones(6), np.ones(6, dtype=bool), 2) for sign in (1, -1))
    np.testing.assert_allclose(one.loadings, two.loadings)
    many = np.random.RandomState(seed).normal(size=(10, 6, 2))
    for loadings in (starts._embed(part, np.ones(6), np.ones(6, dtype=bool), 2).loadings for part in many):
        assert (loadings.max(axis=0) == np.abs(loadings).max(axis=0)).all()


def test_equal_directions_leave_no_negative_variance():
    for n, scale in itertools.product(range(3, 40), (0.3, 1e-3)):
        model = probabilistic_pca_start(np.vstack([np.eye(n), -np.eye(n)]) * scale, np.ones(n), 2, None)
        assert np.isfinite(model.loadings).all()


def test_one_component_and_wide_tables_have_starts(seed):
    X = np.random.RandomState(seed).normal(size=(5, 6))
    X -= X.mean(axis=0)
    assert pca_start(X, 1, np.random.RandomState(0)).code_scale.shape == (1,)
    found, expected = (start(X, np.ones(6), 2, None) for start in (factor_analysis_start, probabilistic_pca_start))
    np.testing.assert_array_equal(found.noise, expected.noise)
    assert likelier_start(X[:4, :3] - X[:4, :3].mean(axis=0), np.ones(3), 1, None).loadings.shape == (3, 1)


def test_factor_analysis_starts_from_one_noise_and_from_one_in_units_of_its_own(monkeypatch):
    X, scale, asked = np.random.RandomState(0).normal(size=(50, 3)), np.array([1.0, 2.0, 4.0]), []
    monkeypatch.setattr(starts, "_factor_analysis", lambda X, noises, *_: asked.extend(noises))
    factor_analysis_start(X, scale, 2, None)
    np.testing.assert_array_equal(asked, [[1, 1, 1], [1, 1 / 4, 1 / 16]])


def test_the_likelier_of_two_fits_is_kept_and_one_that_has_not_converged_will_do(seed):
    X = np.random.RandomState(seed).normal(size=(200, 4)) @ np.random.RandomState(seed + 1).normal(size=(4, 4))
    X = fit_frame(X, "identity", per_column=True).to_net(X)
    X[0] = 0
    noises = np.ones(4), np.full(4, 1e-3)
    alone = [starts._factor_analysis(X, [noise], 1, 10.0) for noise in noises]
    best = max(alone, key=lambda model: model.log_density(X).mean())
    assert not np.allclose(alone[0].noise, alone[1].noise)
    for order in (noises, noises[::-1]):
        np.testing.assert_array_equal(starts._factor_analysis(X, order, 1, 10.0).noise, best.noise)
    assert np.isfinite(starts._factor_analysis(X, noises[:1], 1, 0.0).noise).all()


def test_fits_are_compared_where_they_end(seed, monkeypatch):
    X, curves = np.random.RandomState(seed).normal(size=(50, 3)), iter([[0.0, 9.0, 5.0, 1.0], [0.0, 1.0, 1.0, 2.0]])

    class Told(FactorAnalysis):
        def fit(self, X):
            super().fit(X)
            warnings.warn("FactorAnalysis did not converge", ConvergenceWarning, stacklevel=2)
            self.loglike_ = next(curves)
            self.noise_variance_ = np.full(3, self.loglike_[-1])
            return self

    monkeypatch.setattr(starts, "FactorAnalysis", Told)
    np.testing.assert_array_equal(starts._factor_analysis(X, [np.ones(3)] * 2, 1, 1e-6).noise, [2, 2, 2])


def test_each_fold_is_centred_by_what_it_learns_from_and_draws_from_what_it_is_given(seed, monkeypatch):
    X = np.random.RandomState(seed).normal(size=(30, 3))
    X -= X.mean(axis=0)
    fit, seen = starts._factor_analysis, []

    class Seeing(LinearGaussian):
        def log_density(self, left_out):
            seen[-1].append(left_out)
            return super().log_density(left_out)

    def factor_analysis(rows, *rest):
        seen.append([rows])
        return Seeing(*fit(rows, *rest))

    monkeypatch.setattr(starts, "_factor_analysis", factor_analysis)
    before = np.random.get_state()[1].copy()
    likelier_start(X, np.ones(3), 1, np.random.RandomState(0))
    np.testing.assert_array_equal(before, np.random.get_state()[1])
    folds = [parts for parts in seen if len(parts) == 2]
    assert len(folds) == 5
    for rows, left_out in folds:
        np.testing.assert_allclose(rows.mean(axis=0), 0, atol=1e-12)
        both = np.vstack([rows, left_out])
        np.testing.assert_allclose(np.sort(both - both.mean(axis=0), axis=0), np.sort(X, axis=0), atol=1e-12)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("likelihood", ["gaussian", "poisson", "bernoulli"])
def test_rows_may_be_alike_but_for_one(likelihood):
    X = np.zeros((20, 4))
    X[3] = [1, 1, 0, 1]
    model = VAEGenerator(2, likelihood=likelihood, max_iter=2, random_state=0).fit(X)
    assert np.isfinite(model.score_samples(X)).all()
