"""Components in order: one fit, every number of components."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.decomposition import PCA
from torch import nn

from skae import AutoencoderTransformer, reconstruction_error

pytestmark = pytest.mark.usefixtures("narrow_networks", "rough_estimates")

SIZES = range(1, 13)


def ordered(n_components=12, **parameters):
    return AutoencoderTransformer(n_components, ordered=True, **{"max_iter": 60, "random_state": 0} | parameters)


@pytest.fixture(scope="module")
def split(digits):
    return digits[:800], digits[800:1400]


@pytest.fixture(scope="module")
def fitted(split):
    return ordered(hidden_layer_sizes=(128, 64)).fit(split[0])


def pca_error(size, train, test):
    return reconstruction_error(PCA(size, svd_solver="full").fit(train), test)


def test_without_training_it_is_pca_of_every_size(scaled_table):
    X = scaled_table[:200]
    model = ordered(min(8, *X.shape), max_iter=0).fit(X)
    scale = X.std(axis=0).max()
    for size in range(1, model.n_components_ + 1):
        pca, cut = PCA(size, svd_solver="full").fit(X), model.truncate(size)
        Z = pca.transform(X)
        np.testing.assert_allclose(cut.transform(X), Z, atol=1e-6 * np.abs(Z).max())
        np.testing.assert_allclose(cut.inverse_transform(Z), pca.inverse_transform(Z), atol=1e-6 * scale)
        np.testing.assert_allclose(cut.components_, pca.components_, atol=1e-6)


def test_no_size_is_worse_than_pca_and_larger_ones_are_no_worse_than_smaller_ones(fitted, split):
    errors = np.array([reconstruction_error(fitted.truncate(size), split[1]) for size in SIZES])
    assert (errors <= 1.02 * np.array([pca_error(size, *split) for size in SIZES])).all()
    assert (errors[1:] <= 1.05 * errors[:-1]).all()  # 80 samples decided how many components a size decodes
    assert errors[7] < 0.75 * pca_error(8, *split)


def test_a_size_at_which_pca_leaves_next_to_nothing_is_hardly_worse_than_pca():
    rng = np.random.RandomState(0)
    t = rng.uniform(-2, 2, size=(400, 3))
    X = np.hstack([t, t**2, np.sin(2 * t)]) @ rng.normal(size=(9, 40)) + 1e-3 * rng.normal(size=(400, 40))
    model = ordered(16, hidden_layer_sizes=(128, 64), max_iter=200).fit(X[:300])
    ratios = [
        reconstruction_error(model.truncate(size), X[300:]) / pca_error(size, X[:300], X[300:]) for size in (4, 16)
    ]
    assert ratios[0] < 0.5
    assert ratios[1] < 1.1


def test_codes_of_a_size_are_the_first_columns(fitted, split):
    Z = fitted.transform(split[1])
    for size in (1, 3, 8, 12):
        cut = fitted.truncate(size)
        assert cut.n_components == cut.n_components_ == size
        np.testing.assert_allclose(cut.transform(split[1]), Z[:, :size], atol=1e-6)
        assert cut.inverse_transform(Z[:, :size]).shape == split[1].shape
        assert cut.components_.shape == (size, 64)
        assert cut.net_ is fitted.net_


def test_a_cut_of_a_cut_is_the_cut(fitted, split):
    twice, once = fitted.truncate(8).truncate(3), fitted.truncate(3)
    X = split[1]
    np.testing.assert_array_equal(
        twice.inverse_transform(twice.transform(X)), once.inverse_transform(once.transform(X))
    )


def test_a_row_has_the_same_code_whatever_the_batch(fitted, split):
    X = split[1]
    np.testing.assert_allclose(fitted.transform(X)[7], fitted.transform(X[7:8])[0], rtol=1e-7, atol=1e-9)


def test_shares_add_up_to_the_score_of_held_out_rows(split):
    train, held_out = split
    model = ordered(max_iter=5).fit(train, X_val=held_out)
    assert model.explained_variance_ratio_.sum() == pytest.approx(model.score(held_out), abs=1e-3)
    for size in (1, 2, 5):
        explained = model.truncate(size).explained_variance_ratio_.sum()
        assert explained == pytest.approx(model.truncate(size).score(held_out), abs=1e-3)  # float32 and float64
    assert (model.explained_variance_ratio_ >= 0).all()


def test_without_training_the_shares_are_pcas(digits):
    model = ordered(6, max_iter=0, early_stopping=False).fit(digits[:900])
    expected = PCA(6, svd_solver="full").fit(digits[:900]).explained_variance_ratio_
    np.testing.assert_allclose(model.explained_variance_ratio_, expected, atol=1e-9)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.8])
def test_a_share_asks_for_the_fewest_components_that_explain_it(split, share):
    model = AutoencoderTransformer(share, max_iter=10, random_state=0).fit(split[0])
    assert model.n_components == share
    explained = model.explained_variance_ratio_.cumsum()
    assert len(explained) == model.n_components_ == model.transform(split[1]).shape[1]
    assert explained[-1] >= share
    assert (explained[:-1] < share).all()


def test_a_share_that_held_out_rows_do_not_reach_takes_all_that_the_net_has():
    X = np.random.RandomState(0).normal(size=(40, 30))  # training rows promise more than new ones hold
    with (
        pytest.warns(match="of the variance of the validation set, less than n_components=0.9"),
        pytest.warns(match="linear"),
    ):
        model = AutoencoderTransformer(0.9, max_iter=2, random_state=0).fit(X[:30], X_val=X[30:])
    explained = np.cumsum(PCA().fit(X[:30]).explained_variance_ratio_)
    assert model.n_components_ == int((explained > 0.95).argmax()) + 1
    assert model.explained_variance_ratio_.sum() < 0.9


def test_auto_stops_where_the_held_out_error_stops_falling():
    rng = np.random.RandomState(0)
    X = rng.normal(size=(400, 3)) @ rng.normal(size=(3, 20)) + 0.05 * rng.normal(size=(400, 20))
    with pytest.warns(match="linear start"):
        model = AutoencoderTransformer("auto", max_iter=10, random_state=0).fit(X)
    assert model.n_components_ == 3
    assert "auto" in repr(model)


@pytest.mark.usefixtures("default_networks")
def test_every_method_works_at_the_chosen_size(split):
    model = AutoencoderTransformer(0.6, max_iter=3, random_state=0).fit(split[0])
    assert model.sample(3).shape == (3, 64)
    assert len(model.get_feature_names_out()) == model.n_components_
    X = split[1][:100]
    assert np.isfinite(model.score_samples(X)).all()
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_allclose(again.transform(X), model.transform(X), atol=1e-6)
    np.testing.assert_allclose(again.truncate(1).transform(X), model.truncate(1).transform(X), atol=1e-6)


def test_constant_columns_come_back_at_every_size(curve):
    X = np.column_stack([curve, np.full(len(curve), 7.0)])
    model = ordered(3, max_iter=5).fit(X)
    for size in (1, 2, 3):
        cut = model.truncate(size)
        assert (cut.inverse_transform(cut.transform(X))[:, -1] == 7.0).all()


@pytest.mark.parametrize(
    "parameters",
    [
        {"loss": "absolute_error"},
        {"loss": "poisson"},
        {"noise": 0.2, "sparsity": 0.001},
        {"hidden_layer_sizes": ()},
        {"alpha": 0.1},
        {"early_stopping": False},
        {"encoder": lambda n_in, n_out: nn.Linear(n_in, n_out), "decoder": lambda n_in, n_out: nn.Linear(n_in, n_out)},
    ],
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_it_goes_with_the_other_parameters(digits, parameters):
    model = ordered(6, max_iter=10, **parameters).fit(digits[:300])
    assert np.isfinite(model.loss_curve_).all()
    scores = [model.truncate(size).score(digits[300:600]) for size in (1, 6)]
    assert scores[0] < scores[1]


def test_more_components_than_columns_are_allowed(curve):
    model = ordered(8, max_iter=20).fit(curve)
    assert model.truncate(5).score(curve) > 0.99
    assert model.transform(curve).shape == (300, 8)


def test_partial_fit_goes_on(split):
    model = ordered(4, max_iter=3).fit(split[0])
    before = model.transform(split[1])
    model.partial_fit(split[0])
    assert not np.array_equal(model.transform(split[1]), before)
    assert len(model.explained_variance_ratio_) == 4
    for size in (2, 4):
        with pytest.raises(ValueError, match="shares the network of the one it was truncated from"):
            model.truncate(size).partial_fit(split[0])
    assert ordered(4).partial_fit(split[0]).net_.lr == 3e-3


def test_fitting_a_cut_is_a_fit_of_its_own(fitted, split):
    cut = fitted.truncate(2)
    before = fitted.transform(split[1])
    cut.set_params(max_iter=5).fit(split[0])
    np.testing.assert_array_equal(fitted.transform(split[1]), before)
    assert cut.net_ is not fitted.net_


def test_the_output_of_a_cut_is_its_own(fitted, split):
    cut = fitted.truncate(2).set_output(transform="pandas")
    assert list(cut.transform(split[1])) == ["autoencodertransformer0", "autoencodertransformer1"]
    assert isinstance(fitted.transform(split[1]), np.ndarray)


def test_a_clone_is_fitted_anew(split):
    model = AutoencoderTransformer("auto", max_iter=0).fit(split[0])
    copy = clone(model)
    assert copy.n_components == "auto"
    assert not hasattr(copy, "n_components_")


def test_losses_are_relative_to_pcas(fitted):
    assert fitted.linear_loss_ == pytest.approx(1, abs=0.3)
    assert fitted.best_loss_ < 0.9 * fitted.linear_loss_


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n_components": 1.5}, "n_components=1.5 must be an integer of at least 1, a share"),
        ({"n_components": "all"}, "n_components='all' must be"),
        ({"n_components": True}, "n_components=True must be"),
        ({"ordered": "yes"}, "ordered='yes' must be True or False"),
        ({"ordered": True, "start": "random"}, "needs ordered components, which a random start does not have"),
        ({"n_components": 0.9, "start": "random"}, "needs ordered components"),
    ],
)
def test_wrong_parameters_are_named(curve, parameters, message):
    with pytest.raises(ValueError, match=message):
        AutoencoderTransformer(**parameters).fit(curve)


def test_wrong_sizes_are_named(fitted, curve):
    with pytest.raises(ValueError, match="n_components=13 must be at most n_components_=12"):
        fitted.truncate(13)
    with pytest.raises(ValueError, match="must be an integer of at least 1"):
        fitted.truncate(0)
    with pytest.raises(ValueError, match="are not ordered"):
        AutoencoderTransformer(max_iter=0).fit(curve).truncate(1)
    assert not hasattr(AutoencoderTransformer("auto"), "partial_fit")


def test_a_quarter_of_the_samples_has_every_size_between_levels_in_turn(digits):
    net = ordered(8, max_iter=0).fit(digits[:100]).net_.module_.train()
    net.size_weights.copy_(torch.arange(1, 9))  # so that the weight of an output says its size
    batches = [torch.from_numpy(digits[:n]) for n in (1, 1, 5, 32, 9)]
    sizes = torch.cat([net(x).weight.squeeze(2) for x in batches], dim=1).int()
    whole = torch.arange(48) % 4 > 0
    assert (sizes[:, whole] == torch.tensor([[1], [2], [4], [8]])).all()
    assert [sorted(set(level.tolist())) for level in sizes[:, ~whole]] == [[1], [2], [3], [5, 6, 7]]
    assert sizes[3, ~whole].bincount().tolist()[5:] == [4, 4, 4]
