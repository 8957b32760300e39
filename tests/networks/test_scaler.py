"""Links and scaling: what the network sees of samples, and the way back."""

import copy

import numpy as np
import pytest
import torch
from network_cases import normal
from scipy.sparse import csr_array

from skae.data.rows import ArrayRows, FileRows, SparseRows
from skae.networks.preprocessing import LINKS, CodeScaler, Scaler


def fitted(X, link="identity", **options):
    return Scaler(X.shape[1], link, **options).fit(ArrayRows(X))


def forth(scaler, X):
    return scaler(torch.tensor(X)).numpy()


def back(scaler, X):
    return scaler.inverse(torch.tensor(X)).numpy()


@pytest.mark.parametrize("link", ["identity", "logit", "log"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_samples_are_centred_and_scaled_by_one_number(link, dtype, seed):
    X = np.random.RandomState(seed).uniform(size=(50, 4)).astype(dtype)
    scaler = fitted(X, link)
    rows = forth(scaler, X)
    assert scaler.scale.shape == ()
    assert rows.dtype == dtype
    np.testing.assert_allclose(rows.mean(axis=0), 0, atol=1e-5)
    assert np.square(rows).mean() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("link", ["identity", "logit", "log"])
def test_each_column_may_have_a_scale_of_its_own(link, seed):
    X = np.random.RandomState(seed).uniform(size=(50, 4)) ** [1, 2, 3, 4]
    scaler = fitted(X, link, per_column=True)
    rows = forth(scaler, X)
    np.testing.assert_allclose(rows.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(rows.std(axis=0), 1)
    assert scaler.spread.tolist() == [1] * 4


@pytest.mark.parametrize("per_column", [False, True])
def test_the_way_back_inverts_the_way_in(scaled_table, per_column):
    scaler = fitted(scaled_table, per_column=per_column)
    np.testing.assert_allclose(back(scaler, forth(scaler, scaled_table)), scaled_table, atol=1e-9)


@pytest.mark.parametrize("offset", [0, 1e9, -1e9])
@pytest.mark.parametrize("unit", [1e-12, 1, 1e12, 1e140, 1e-140])
def test_offset_and_unit_leave_the_network_the_same_samples(offset, unit, seed):
    X = np.random.RandomState(seed).normal(size=(60, 3))
    moved = (X + offset) * unit
    # An offset of 1e9 leaves float64 seven digits of a signal of 1.
    np.testing.assert_allclose(forth(fitted(moved), moved), forth(fitted(X), X), atol=1e-6 if offset else 1e-9)


@pytest.mark.parametrize("per_column", [False, True])
@pytest.mark.parametrize("unit", [1e200, 3e153, 1e-200])
def test_a_spread_that_has_no_square_is_named(unit, per_column, seed):
    X = np.random.RandomState(seed).normal(size=(60, 3))
    X *= unit / X.std(axis=0)
    with pytest.raises(ValueError, match=rf"standard deviation of column \d of X is {unit:g}".replace("+", r"\+")):
        fitted(X, per_column=per_column)


def test_the_largest_of_several_spreads_without_a_square_is_named(seed):
    X = np.random.RandomState(seed).normal(size=(60, 3))
    with pytest.raises(ValueError, match=r"standard deviation of column 1 of X is 3e\+201,"):
        fitted(X / X.std(axis=0) * [1e200, 3e201, 1e200], per_column=True)


@pytest.mark.parametrize("link", ["log", ("log", "identity", "log")])
def test_a_column_of_zeros_has_a_logarithm(link, seed):
    X = np.random.RandomState(seed).poisson(3.0, size=(60, 3)).astype(float)
    X[:, 2] = 0
    scaler = fitted(X, link)
    assert all(value.isfinite().all() for value in scaler.state_dict().values())
    assert np.isfinite(forth(scaler, X)).all()
    assert not back(scaler, np.ones((2, 3)))[:, 2].any()


def test_one_column_without_a_square_is_enough(seed):
    X = np.random.RandomState(seed).normal(size=(60, 3)) * [1, 1e-200, 1]
    with pytest.raises(ValueError, match="whose square overflows or underflows"):
        fitted(X, per_column=True)
    assert fitted(X).scale > 0.1  # all columns share one that has a square


def test_constant_columns_are_zero_inside_and_come_back(seed):
    X = np.random.RandomState(seed).normal(size=(30, 3))
    X[:, 1] = 0.1
    scaler = fitted(X)
    assert scaler.constant.tolist() == [False, True, False]
    assert not forth(scaler, X + 1)[:, 1].any()
    assert (back(scaler, np.ones((5, 3)))[:, 1] == 0.1).all()


@pytest.mark.parametrize("link", ["identity", "logit", "log", "share"])
@pytest.mark.parametrize("per_column", [False, True])
def test_samples_that_are_all_alike_have_a_scaler(link, per_column):
    X = np.full((5, 2), 0.5)
    scaler = fitted(X, link, per_column=per_column)
    assert (scaler.scale == 1).all()
    assert not scaler.spread.any()
    assert not forth(scaler, X).any()


def test_a_raw_scaler_changes_nothing(seed):
    X = np.random.RandomState(seed).normal(3, 2, size=(20, 4))
    scaler, x = fitted(X, "logit", per_column=True, is_raw=True), torch.tensor(X)
    assert scaler(x) is x
    assert scaler.inverse(x) is x
    np.testing.assert_allclose(scaler.mean, X.mean(axis=0))
    np.testing.assert_allclose(scaler.spread, X.std(axis=0))
    assert scaler.location.tolist() == [0] * 4
    assert scaler.scale == 1
    assert scaler.constant.dtype == torch.bool
    assert not scaler.constant.any()
    assert scaler.is_identity
    without = Scaler(4, is_raw=True).fit(ArrayRows(X), with_spread=False)
    np.testing.assert_allclose(without.mean, X.mean(axis=0))
    assert not without.spread.any()


def test_only_a_raw_scaler_may_do_without_the_spread(seed):
    X = np.random.RandomState(seed).normal(3, 2, size=(20, 4))
    np.testing.assert_allclose(Scaler(4).fit(ArrayRows(X), with_spread=False).spread, fitted(X).spread)


@pytest.mark.parametrize("link", LINKS)
def test_samples_are_read_and_not_changed(link, seed):
    X = np.random.RandomState(seed).uniform(size=(20, 4))
    X[:, 2] = 0.5
    before, x = X.copy(), torch.tensor(X)
    scaler = fitted(X, link)
    scaled = scaler(x)
    scaler.inverse(scaled)
    np.testing.assert_array_equal(X, before)
    np.testing.assert_array_equal(x, before)
    again = scaler(x)
    np.testing.assert_array_equal(scaled, again)
    scaled.zero_()
    np.testing.assert_array_equal(x, before)


@pytest.fixture
def always_warning():
    """Let torch give a warning again that it has given."""
    before = torch.is_warn_always_enabled()
    torch.set_warn_always(True)
    yield
    torch.set_warn_always(before)


@pytest.mark.parametrize("link", [*LINKS, ("logit", "log", "identity", "logit")])
def test_an_array_that_cannot_be_written_to_will_do(link, seed, always_warning):
    X = np.asfortranarray(np.random.RandomState(seed).uniform(size=(20, 4)))
    expected = fitted(X, link)
    X.flags.writeable = False
    found = fitted(X, link)
    for name, value in found.state_dict().items():
        assert torch.equal(value, expected.state_dict()[name])


def without_some(X):
    """A copy without some entries: two columns lack whole blocks of samples."""
    X = X.copy()
    X[:2000, 1] = X[1000:, 0] = X[::7, 2] = X[5] = np.nan
    return X


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_missing_values_count_for_nothing_and_stay_missing(dtype, seed):
    X = (np.random.RandomState(seed).normal(size=(3000, 4)) * [1, 2, 3, 0] + [5, 0, -1, 3]).astype(dtype)
    X = without_some(X)
    scaler = fitted(X, per_column=True)
    np.testing.assert_allclose(scaler.mean, np.nanmean(X, axis=0, dtype=np.float64), atol=1e-6)
    np.testing.assert_allclose(scaler.scale[:3], np.nanstd(X, axis=0, dtype=np.float64)[:3], rtol=1e-5)
    assert (scaler.scale[3], scaler.spread.tolist()) == (1, [1, 1, 1, 0])
    assert scaler.constant.tolist() == [False, False, False, True]
    for options in ({}, {"with_spread": False}):
        raw = Scaler(4, is_raw=True).fit(ArrayRows(X), **options)
        np.testing.assert_allclose(raw.mean, scaler.mean, atol=1e-6)
    np.testing.assert_allclose(fitted(X, is_raw=True).spread, scaler.scale * scaler.spread, atol=1e-6)
    one = fitted(X)
    assert one.scale.item() == pytest.approx(scaler.scale[:3].square().mean().sqrt().item())
    np.testing.assert_allclose(one.spread, scaler.scale * scaler.spread / one.scale)
    np.testing.assert_array_equal(np.isnan(forth(scaler, X))[:, :3], np.isnan(X)[:, :3])
    assert not forth(scaler, X)[:, 3].any()


@pytest.mark.parametrize("link", LINKS)
def test_missing_values_pass_through_any_link(link, seed):
    X = np.random.RandomState(seed).uniform(size=(20, 4))
    X[::3, 1] = X[5, :3] = np.nan
    np.testing.assert_array_equal(np.isnan(forth(fitted(X, link), X)), np.isnan(X))


def test_links_are_those_of_shrunk_samples_and_each_column_has_its_own(seed):
    rng = np.random.RandomState(seed)
    X = np.hstack([rng.uniform(size=(50, 1)), rng.poisson(3.0, size=(50, 2)), rng.normal(size=(50, 1))])
    X[:, 2] = 4
    scaler = fitted(X, ("logit", "log", "log", "identity"), per_column=True)
    probability, count = 0.05 + 0.9 * X[:, 0], 0.9 * X[:, 1] + 0.1 * X[:, 1].mean()
    linked = np.stack([np.log(probability / (1 - probability)), np.log(count), 0 * count, X[:, 3]], axis=1)
    np.testing.assert_allclose(scaler.location[[0, 1, 3]], linked.mean(axis=0)[[0, 1, 3]])
    expected = (linked - linked.mean(axis=0)) / np.where(linked.std(axis=0) > 0, linked.std(axis=0), 1)
    np.testing.assert_allclose(forth(scaler, X), expected, atol=1e-12)
    for k, link in ((0, "logit"), (1, "log")):
        np.testing.assert_allclose(fitted(X[:, [k]], link).location, linked[:, [k]].mean(axis=0))
    decoded = back(scaler, np.ones((2, 4)))
    np.testing.assert_array_equal(decoded, [[1, 1, 4, 1]] * 2)  # all but constants are on the link's own scale


def test_the_output_is_centred_where_a_link_needs_it(seed):
    X = np.random.RandomState(seed).uniform(size=(30, 3))
    X[:, 1] = 0.5
    for link in ("logit", "log"):
        scaler = fitted(X, link, per_column=True)
        scale, centre = scaler.output_map
        assert torch.equal(scale, scaler.scale)
        assert torch.equal(centre, scaler.location)
        assert not scaler.is_identity
        assert not scaler.log_units.any()
    for identity in (fitted(X, per_column=True), fitted(X)):
        scale, centre = identity.output_map
        assert scale.shape == identity.scale.shape
        assert (scale == 1).all()
        assert not centre.any()
        expected = torch.where(identity.constant, 0, identity.scale.log())
        torch.testing.assert_close(identity.log_units, expected)


def test_shares_are_those_of_all_samples_where_one_is_empty_and_of_what_is_observed(seed):
    X = np.random.RandomState(seed).poisson([1.0, 5.0, 20.0, 2.0], size=(50, 4)).astype(float)
    X[:, 2] = 20
    X[0] = X[2] = X[3] = 0
    X[1, 3] = X[3, 3] = np.nan
    X[2, 1] = 1
    scaler = fitted(X, "share")
    mean = np.nanmean(X, axis=0)
    shares = (mean + 1e-4) / (mean + 1e-4).sum()
    np.testing.assert_allclose(scaler.shares, shares)
    scale, centre = scaler.output_map
    np.testing.assert_allclose(centre, np.log(shares))
    np.testing.assert_allclose(scale, 1 / np.sqrt(4 * shares))
    of_samples = X / np.maximum(np.nansum(X, axis=1, keepdims=True), 1)
    of_samples[0] = shares
    of_samples[1] *= shares[:3].sum()
    of_samples[3, :3] = shares[:3]
    linked = np.log(0.9 * of_samples + 0.1 * shares)
    np.testing.assert_allclose(scaler.location, np.nanmean(linked, axis=0))
    np.testing.assert_allclose(scaler.spread, np.nanstd(linked, axis=0) / scale.numpy())
    np.testing.assert_allclose(forth(scaler, X), (linked - scaler.location.numpy()) / scale.numpy())
    np.testing.assert_array_equal(back(scaler, X[4:]), X[4:])
    X[[0, 2, 3], 2] = 20
    scaler = fitted(X, "share")  # whose constant column has shares that vary, and comes back as it is decoded
    assert (scaler.scale[2], scaler.spread[2]) == (1, 0)
    assert not forth(scaler, X)[:, 2].any()
    np.testing.assert_array_equal(back(scaler, np.ones((2, 4))), 1)


def test_means_of_float32_are_those_of_float64():
    X = np.array([[1.0], [1e8], [-1e8]], dtype=np.float32)
    for scaler in (fitted(X), fitted(X, is_raw=True), Scaler(1, is_raw=True).fit(ArrayRows(X), with_spread=False)):
        assert scaler.mean[0].item() == pytest.approx(1 / 3, abs=1e-7)


@pytest.mark.parametrize("options", [{}, {"is_raw": True}, {"per_column": True}, {"link": "log"}, {"link": "share"}])
def test_any_source_of_samples_gives_the_same_scaler(options, seed, monkeypatch, tmp_path):
    X = np.random.RandomState(seed).poisson(3.0, size=(40, 4)).astype(float)
    file = np.lib.format.open_memmap(tmp_path / "X.npy", "w+", X.dtype, X.shape)
    file[:] = X
    expected = Scaler(4, **options).fit(ArrayRows(X)).state_dict()
    monkeypatch.setattr("skae.data.statistics._BLOCK_NUMBERS", 28)
    for source in (ArrayRows(X), SparseRows(csr_array(X)), FileRows(file)):
        for name, value in Scaler(4, **options).fit(source).state_dict().items():
            torch.testing.assert_close(value, expected[name])


CASTS = {
    "float": lambda scaler: scaler.float(),
    "half": lambda scaler: scaler.half(),
    "to": lambda scaler: scaler.to(torch.float32),
    "inside": lambda scaler: torch.nn.Sequential(scaler).float()[0],
    "copied": lambda scaler: copy.deepcopy(scaler).float(),
    "back": lambda scaler: scaler.float().double(),
}


@pytest.mark.parametrize("cast", CASTS)
def test_the_scaling_stays_exact_when_the_network_is_cast(cast, generator):
    x = 1e9 + normal(generator, 30, 3)
    scaler = Scaler(3, per_column=True).fit(ArrayRows(x.numpy()))
    codes = CodeScaler(3)
    codes.scale.copy_(normal(generator, 3))
    for module in (scaler, codes):
        before = {name: value.clone() for name, value in module.state_dict().items()}
        for name, value in CASTS[cast](module).state_dict().items():
            assert value.dtype == before[name].dtype
            assert torch.equal(value, before[name])
    torch.testing.assert_close(scaler(x).std(0, unbiased=False), torch.ones(3).double(), rtol=1e-6, atol=0)


def test_an_exact_module_goes_to_another_device():
    for module in (Scaler(3, per_column=True), CodeScaler(3)):
        assert all(value.is_meta for value in torch.nn.Sequential(module).to("meta", torch.float32).buffers())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_codes_of_any_size_are_scaled_and_back_in_their_precision(dtype, generator):
    scaler, z = CodeScaler(4).float(), normal(generator, 5, 3).to(dtype)
    scaler.scale.copy_(normal(generator, 4))
    scaled = scaler(z)
    torch.testing.assert_close(scaled, z * scaler.scale[:3].to(dtype))
    torch.testing.assert_close(scaler.inverse(scaled), z)


@pytest.mark.parametrize("link", [*LINKS, ("logit", "log", "identity", "log")])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_both_ways_keep_the_precision_of_samples(link, dtype, seed):
    X = np.random.RandomState(seed).uniform(size=(20, 4)).astype(dtype)
    X[:, 1] = 0.5
    scaler = fitted(X, link, per_column=True)
    assert forth(scaler, X).dtype == back(scaler, X).dtype == dtype
