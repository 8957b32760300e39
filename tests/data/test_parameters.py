"""A parameter that does not fit is named with its value, its rule and a way out."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from skorch.callbacks import EpochTimer
from torch import nn

from skae.data import parameters as check

share = partial(check.check_n_components, takes_share=True)
whole = partial(check.check_n_components, takes_share=False)
integer = partial(check.check_integer, "n", low=1, extra=", or 'auto'")
real = partial(check.check_real, "x")
fraction = partial(check.check_real, "x", high=1.0, open_low=True, extra=", or 'auto'")
option = partial(check.check_choice, "loss", options=("squared_error", "huber"))
flag = partial(check.check_flag, "ordered")
widths = partial(check.check_widths, "hidden_layer_sizes")
sizes = partial(check.check_sizes, "n_components")
factory = partial(check.check_factory, "encoder")
folder = partial(check.check_folder, "checkpoint")


@pytest.mark.parametrize(
    ("function", "value", "result"),
    [
        (integer, np.int64(3), 3),
        (real, 0, 0.0),
        (fraction, np.float32(0.5), 0.5),
        (share, 0.9, 0.9),
        (share, "auto", "auto"),
        (whole, np.int32(2), 2),
        (option, "huber", "huber"),
        (flag, np.False_, False),
        (widths, "auto", "auto"),
        (widths, 8, (8,)),
        (widths, [8, np.int64(4)], (8, 4)),
        (widths, (), ()),
        (sizes, 3, [3]),
        (sizes, [4, 1, 4], [1, 4]),
        (check.check_feature_shape, None, None),
        (check.check_feature_shape, [1, 28, 8], (1, 28, 8)),
        (factory, None, None),
        (factory, nn.Linear, nn.Linear),
    ],
)
def test_what_fits_is_returned_as_plain_python(function, value, result):
    found = function(value)
    assert found == result
    assert type(found) is type(result) or function in (share, whole)


@pytest.mark.parametrize(
    ("function", "value", "message"),
    [
        (integer, 0, "n=0 must be an integer of at least 1, or 'auto'"),
        (integer, True, "n=True must be an integer"),
        (integer, 1.5, "n=1.5"),
        (integer, "big", "n='big'"),
        (real, -0.1, r"x=-0.1 must be a number in \[0, inf\)"),
        (real, float("nan"), "x=nan"),
        (real, np.inf, "x=inf"),
        (real, True, "x=True"),
        (real, "strong", "x='strong'"),
        (fraction, 0, r"x=0 must be a number in \(0, 1\), or 'auto'"),
        (fraction, 1.0, "x=1.0"),
        (share, 0, "n_components=0 must be an integer of at least 1, a share .* or 'auto'"),
        (share, 1.5, "n_components=1.5"),
        (share, True, "n_components=True"),
        (share, False, "n_components=False"),
        (share, "many", "n_components='many'"),
        (
            share,
            None,
            "n_components=None must be .*, or 'auto'. With None PCA keeps all .*; pass the number of columns",
        ),
        (share, "mle", "n_components='mle' must be .*, or 'auto', which chooses the number like 'mle' of PCA."),
        (whole, 0.5, "n_components=0.5 must be an integer of at least 1, or 'auto'"),
        (option, "l2", "loss='l2' is not known. Use one of 'squared_error', 'huber'"),
        (option, None, "loss=None is not known"),
        (flag, "yes", "ordered='yes' must be True or False"),
        (flag, 1, "ordered=1"),
        (widths, (8, 0), r"hidden_layer_sizes=\(8, 0\)"),
        (widths, "wide", r"hidden_layer_sizes='wide' must be 'auto' or a sequence .*; \(\) is a linear net"),
        (widths, None, "hidden_layer_sizes=None"),
        (widths, (1,) * 201, "a sequence of at most 200 integers"),
        (sizes, [], r"n_components=\[\] must hold at least one integer"),
        (sizes, [0], "n_components=0 must be an integer"),
        (check.check_feature_shape, (1, 7, 8), r"feature_shape=\(1, 7, 8\) must be None or three integers"),
        (check.check_feature_shape, (28, 28), r"feature_shape=\(28, 28\)"),
        (check.check_feature_shape, (), r"feature_shape=\(\)"),
        (check.check_feature_shape, 28, "feature_shape=28"),
        (folder, "", "checkpoint='' names no folder"),
    ],
)
def test_what_does_not_fit_is_named_with_its_rule(function, value, message):
    with pytest.raises(ValueError, match=message):
        function(value)


@pytest.mark.parametrize(
    ("function", "value", "message"),
    [
        (factory, nn.Linear(5, 2), "not a module already built"),
        (factory, "linear", "encoder='linear' must be a callable"),
        (check.check_callbacks, "EpochTimer", "must be a skorch callback"),
        (check.check_callbacks, [1], r"callbacks=\[1\] must be"),
        (check.check_callbacks, 3, "callbacks=3 must be"),
        (folder, 3, "checkpoint=3 must be None or a folder"),
    ],
)
def test_what_has_a_wrong_type_is_named_with_its_rule(function, value, message):
    with pytest.raises(TypeError, match=message):
        function(value)


@pytest.mark.parametrize("value", [None, [], [EpochTimer], EpochTimer(), [("timer", EpochTimer())], (EpochTimer(),)])
def test_callbacks_may_be_classes_objects_or_pairs(value):
    assert len(check.check_callbacks(value)) == bool(value)


@pytest.mark.parametrize("value", [None, "here", Path("here")])
def test_folders_are_paths(value):
    folder(value)


def test_columns_fit_images():
    check.check_fits_columns((1, 8, 8), 64)
    with pytest.raises(ValueError, match=r"feature_shape=\(3, 8, 8\) is for images of 192 values, but X has 64"):
        check.check_fits_columns((3, 8, 8), 64)
