"""Checks of saved state accept what they describe, and name anything else."""

import numpy as np
import pytest
from sklearn.base import BaseEstimator
from sklearn.exceptions import InconsistentVersionWarning
from sklearn.mixture import GaussianMixture

from skae import AutoencoderTransformer, __version__
from skae.persistence import state as stored

DAMAGED = "The saved estimator is damaged or was changed: x "


def check(function, value, *args, **kwargs):
    return function({"x": value}, "x", *args, **kwargs)


@pytest.mark.parametrize(
    ("function", "value", "args", "options"),
    [
        (stored.check_integer, 3, (3, 3), {}),
        (stored.check_integer, np.int64(0), (), {}),
        (stored.check_number, 0.0, (), {"low": 0}),
        (stored.check_number, np.inf, (), {}),
        (stored.check_number, None, (), {"optional": True}),
        (stored.check_numbers, [1, np.float64(2.0), np.nan], (), {}),
        (stored.check_numbers, None, (), {"optional": True}),
        (stored.check_array, np.zeros((2, 3)), ((2, 3),), {"low": 0}),
        (stored.check_array, np.array([np.inf, 1]), ((2,),), {"but": np.full(2, np.inf)}),
        (stored.check_array, np.zeros(0), ((0,),), {"low": 1}),
        (stored.check_array, np.array(["a"], dtype=object), ((1,), object), {}),
        (stored.check_one_of, True, ([True, False],), {}),
    ],
)
def test_what_is_right_passes(function, value, args, options):
    check(function, value, *args, **options)


@pytest.mark.parametrize(
    ("function", "value", "args", "options", "message"),
    [
        (stored.check_integer, True, (), {}, "is True, not an integer from 0 to"),
        (stored.check_integer, 1.0, (), {}, r"is 1\.0, not an integer"),
        (stored.check_integer, 4, (1, 3), {}, "is 4, not an integer from 1 to 3"),
        (stored.check_number, np.nan, (), {}, "is nan, not a number"),
        (stored.check_number, -1, (), {"low": 0}, "is -1, not a number of at least 0"),
        (stored.check_number, None, (), {}, "is None, not a number"),
        (stored.check_number, False, (), {}, "is False, not a number"),
        (stored.check_numbers, (1, 2), (), {}, "is .*, not a list of numbers"),
        (stored.check_numbers, [1, "2"], (), {}, "is .*, not a list of numbers"),
        (stored.check_array, [1.0], ((1,),), {}, "is list, not an array of float64 and shape"),
        (stored.check_array, np.zeros(2), ((3,),), {}, r"is of float64 and shape \(2,\), not an array"),
        (stored.check_array, np.zeros(2, np.float32), ((2,),), {}, "is of float32"),
        (stored.check_array, np.array([np.inf]), ((1,),), {}, "has numbers that are not finite"),
        (stored.check_array, np.array([np.nan]), ((1,),), {"but": np.nan}, "has numbers that are not finite"),
        (stored.check_array, np.array([-np.inf]), ((1,),), {"but": np.inf}, "has numbers that are not finite"),
        (stored.check_number, 10**30, (), {}, "is 1000000.*, not a number"),
        (stored.check_array, np.array([-1.0]), ((1,),), {"low": 0}, "has -1, less than 0"),
        (stored.check_array, np.array([2.0]), ((1,),), {"high": 1}, "has 2, more than 1"),
        (stored.check_one_of, 1, ([True, False],), {}, "is 1, not one of True, False"),
        (stored.check_one_of, "os", (["pandas", None],), {}, "is 'os', not one of 'pandas', None"),
        (stored.check_one_of, {"a": np.zeros(2)}, ([{"a": 1}],), {}, "is .*array.*, not one of {'a': 1}"),
    ],
)
def test_what_is_wrong_is_named(function, value, args, options, message):
    with pytest.raises(ValueError, match=DAMAGED + message):
        check(function, value, *args, **options)


@pytest.mark.parametrize("state", [{}, [], "x", None, 3])
def test_what_is_missing_is_named(state):
    with pytest.raises(ValueError, match=DAMAGED + "is missing"):
        stored.get(state, "x")


@pytest.mark.parametrize(("value", "length"), [(np.zeros((2, 5)), 5), (np.zeros(2), -1), ("text", -1), (None, -1)])
def test_only_arrays_have_a_length(value, length):
    assert stored.length_of({"x": value}, "x", 1) == length


OWN = {"a": np.zeros(2), "b": [1, 0.5, None, True], "c": {"d": -1.0, "e": np.inf, "f": 3}, "g": np.array([np.inf])}


def test_what_is_like_its_pattern_passes():
    stored.check_like(OWN, OWN, "x")
    found = {"a": np.ones(2), "b": [7, 2.5, None, True], "c": {"d": -3.5, "e": 0.0, "f": 0}, "g": np.zeros(1)}
    stored.check_like(found, OWN, "x")
    stored.check_like({"a": np.float64(0.5), "b": 2}, {"a": 1.0, "b": 2.0}, "x")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"a": np.zeros(3)}, r"a is of float64 and shape \(3,\)"),
        ({"a": np.array([0, np.inf])}, "a has numbers that are not finite"),
        ({"b": [1, 0.5, None]}, "b is .*, not a list of 4"),
        ({"b": [1, np.nan, None, True]}, "b is nan, not a number"),
        ({"b": [1, -0.5, None, True]}, "b is -0.5, not a number of at least 0"),
        ({"b": [-1, 0.5, None, True]}, "b is -1, not an integer"),
        ({"b": [1, 0.5, 0, True]}, "b is 0, not one of None"),
        ({"b": [1, 0.5, None, 1]}, "b is 1, not one of True"),
        ({"c": []}, r"c is \[\], not a dict"),
        ({"c": {"d": -1.0}}, "c has entries missing, or too many: e, f"),
        ({"c": {"d": np.inf, "e": 0.0, "f": 0}}, "d is inf"),
        ({"c": {"d": 0.0, "e": np.nan, "f": 0}}, "e is nan"),
        ({"c": {"d": 0.0, "e": -np.inf, "f": 0}}, "e is -inf"),
        ({"g": np.array([np.nan])}, "g has numbers that are not finite"),
        ({"g": np.array([-np.inf])}, "g has numbers that are not finite"),
    ],
    ids=str,
)
def test_what_is_unlike_its_pattern_is_named(changes, message):
    with pytest.raises(ValueError, match="was changed: " + message):
        stored.check_like(OWN | changes, OWN, "x")


def mixture(**changes):
    fitted = GaussianMixture(2, random_state=0).fit(np.random.RandomState(0).normal(size=(50, 3)))
    vars(fitted).update(changes)
    return fitted


def test_mixtures_of_codes_pass():
    stored.check_mixture(None, 3)
    stored.check_mixture(mixture(), 3)


@pytest.mark.parametrize(
    "changes",
    [
        {"weights_": np.array([0.5, 0.6])},
        {"weights_": np.array([1.5, -0.5])},
        {"means_": np.zeros((2, 2))},
        {"covariances_": np.full((2, 3, 3), np.nan)},
        {"precisions_cholesky_": None},
        {"precisions_cholesky_": -mixture().precisions_cholesky_},
        {"precisions_cholesky_": 2 * mixture().precisions_cholesky_},
        {"covariances_": 1e200 * mixture().covariances_},
        {"covariance_type": "diag"},
        {"n_components": 2.0},
        {"n_features_in_": 10**30},
    ],
    ids=str,
)
def test_other_mixtures_are_refused(changes):
    with pytest.raises(ValueError, match="damaged or was changed"):
        stored.check_mixture(mixture(**changes), 3)


def test_another_class_is_no_mixture():
    with pytest.raises(ValueError, match="the density of codes is Other, not GaussianMixture or None"):
        stored.check_mixture(type("Other", (GaussianMixture,), {})(), 3)


def test_a_state_has_its_version():
    state = stored.with_version({"a": 1})
    assert stored.without_version(state, AutoencoderTransformer) == {"a": 1}
    with pytest.warns(InconsistentVersionWarning, match=rf"Auto.* by skae of unknown .* by skae {__version__}"):
        stored.without_version({"a": 1}, AutoencoderTransformer)


@pytest.mark.parametrize("version", ["999.0.0", "999.0.0rc1", "0.0", "text", None])
def test_a_state_of_a_later_or_unknown_version_warns(version):
    with pytest.warns(InconsistentVersionWarning, match=f"saved by skae {version} and"):
        stored.without_version({stored.VERSION: version}, AutoencoderTransformer)


@pytest.mark.parametrize("version", ["0.0.1", __version__, f"{__version__}rc1"])
def test_a_state_of_an_earlier_version_gives_no_warning(version):
    assert stored.without_version({stored.VERSION: version}, AutoencoderTransformer) == {}


@pytest.mark.parametrize("state", [None, [1], {1: 2}])
def test_a_state_is_a_dict_of_names(state):
    with pytest.raises(ValueError, match=r"the state is .*, not a dict with names as keys"):
        stored.without_version(state, AutoencoderTransformer)


class Narrow(AutoencoderTransformer):
    """A user's class that sets most parameters by itself."""

    def __init__(self, width=3):
        super().__init__(hidden_layer_sizes=(width,))
        self.width = width

    @property
    def n_layers(self):
        return len(self.hidden_layer_sizes)


def test_names_are_parameters_and_hide_no_method():
    state = vars(Narrow())
    assert "width" in stored.parameter_names(Narrow)
    assert set(AutoencoderTransformer._get_param_names()) < set(stored.parameter_names(Narrow))
    stored.check_names(state | {"mean_": 0}, Narrow)
    with pytest.raises(ValueError, match="width is missing"):
        stored.check_names({name: value for name, value in state.items() if name != "width"}, Narrow)
    for name in ("transform", "n_layers"):
        with pytest.raises(ValueError, match=f"{name} is the name of a method or property of Narrow"):
            stored.check_names(state | {name: 0}, Narrow)


def test_trusted_types_can_be_imported():
    for name in stored.TRUSTED_TYPES:
        module, _, thing = name.rpartition(".")
        found = getattr(__import__(module, fromlist=[thing]), thing)
        assert (found.__module__, found.__qualname__) == (module, thing)
        assert not isinstance(found, type) or issubclass(found, BaseEstimator)
