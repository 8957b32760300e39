"""A mistake raises an error that names the value, the rule and a way out; a failed fit leaves nothing half done."""

import signal
import threading
import time
import warnings
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn import config_context
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from skorch.callbacks import Callback
from torch import nn

from skae import AutoencoderTransformer, LatentSizeCV, VAEGenerator, compare, reconstruction_error

pytestmark = pytest.mark.usefixtures("narrow_networks", "rough_estimates")

pl = pytest.importorskip("polars")


class Float32(nn.Linear):
    def forward(self, x):
        return super().forward(x.float())


X = np.random.RandomState(0).normal(size=(40, 5))


def quick(*args, **parameters):
    return AutoencoderTransformer(*args, **{"max_iter": 5, "random_state": 0} | parameters)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n_components": 0}, "n_components=0 must be an integer of at least 1"),
        ({"n_components": -2}, "n_components=-2"),
        ({"n_components": "many"}, "n_components='many'"),
        ({"n_components": 1.5}, "n_components=1.5"),
        ({"n_components": True}, "n_components=True"),
        ({"n_components": 41}, "n_components=41 is more than the 40 samples"),
        ({"hidden_layer_sizes": (8, 0)}, r"hidden_layer_sizes=\(8, 0\)"),
        ({"hidden_layer_sizes": "wide"}, "hidden_layer_sizes='wide'"),
        ({"hidden_layer_sizes": None}, "hidden_layer_sizes=None"),
        ({"activation": "swish"}, "activation='swish' is not known. Use one of 'silu', 'gelu'"),
        ({"loss": "l2"}, "loss='l2' is not known. Use one of 'squared_error'"),
        ({"start": "svd"}, "start='svd' is not known. Use one of 'pca', 'random'"),
        ({"noise": -0.1}, "noise=-0.1 must be a number in"),
        ({"sparsity": float("nan")}, "sparsity=nan"),
        ({"alpha": "strong"}, "alpha='strong'"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"batch_size": "big"}, "batch_size='big'"),
        ({"learning_rate_init": 0}, "learning_rate_init=0"),
        ({"max_iter": -1}, "max_iter=-1"),
        ({"max_iter": "most"}, "max_iter='most'.*or 'auto'"),
        ({"early_stopping": "yes"}, "early_stopping='yes' must be True or False"),
        ({"validation_fraction": 1.0}, "validation_fraction=1.0"),
        ({"validation_fraction": "some"}, r"must be a number in \(0, 1\), or 'auto'"),
        ({"n_iter_no_change": 0}, "n_iter_no_change=0"),
        ({"tol": -1}, "tol=-1"),
        ({"device": "cuda:99"}, "device='cuda:99' is not usable on this machine"),
        ({"device": "gpu"}, "device='gpu'"),
        ({"device": 1.5}, "device=1.5"),
        ({"device": "meta"}, "device='meta'"),
        ({"encoder": lambda n_in, n_out: nn.Linear(n_in, n_out + 1)}, r"shape \(2, 3\) for 2 samples, not \(2, 2\)"),
        ({"decoder": lambda n_in, n_out: nn.Linear(n_in, n_out + 1)}, r"shape \(2, 6\) for 2 samples, not \(2, 5\)"),
        ({"encoder": lambda n_in, n_out: nn.Linear(n_in + 1, n_out)}, "cannot take samples of 5 columns"),
        ({"encoder": lambda n_in, n_out: Float32(n_in, n_out)}, "in float32 and in float64"),
    ],
)
def test_a_bad_parameter_is_named_with_its_rule(parameters, message):
    model = quick(**parameters)
    with pytest.raises(ValueError, match=message):
        model.fit(X)
    with pytest.raises(NotFittedError):
        model.transform(X)


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        (nn.Linear(5, 2), "not a module already built"),
        ("linear", "must be a callable"),
        (lambda n_in, n_out: "net", "must return a torch.nn.Module, got str"),
        (lambda n_in: nn.Linear(n_in, 2), r"must be a callable \(n_in, n_out\)"),
        (lambda n_in, n_out: nn.LSTM(n_in, n_out), "returns a tensor, got tuple"),
    ],
)
def test_own_modules_of_a_wrong_type_are_refused(encoder, message):
    with pytest.raises(TypeError, match=message):
        quick(encoder=encoder).fit(X)


@pytest.mark.parametrize("callbacks", ["EpochTimer", [1], 3])
def test_callbacks_of_a_wrong_type_are_refused(callbacks):
    with pytest.raises(TypeError, match="must be a skorch callback"):
        quick(callbacks=callbacks).fit(X)


@pytest.mark.parametrize("small", [5e-324, 1e-310, 1e-200])
def test_a_column_that_is_too_small_beside_others_is_named(small):
    rows = np.hstack([X, small * np.arange(len(X))[:, None]])
    with pytest.raises(ValueError, match=rf"deviation of column {X.shape[1]} of X is .* square.*underflow"):
        VAEGenerator(1).fit(rows)


def test_partial_fit_refuses_another_net():
    model = quick().partial_fit(X)
    with pytest.raises(ValueError, match="n_components changed since the network was built"):
        model.set_params(n_components=3).partial_fit(X)


@pytest.mark.parametrize("unit", [1e-170, 1e-160, 1e170])
def test_a_spread_that_has_no_square_is_named(unit):
    with pytest.raises(ValueError, match=r"column \d of X is .*, whose square overflows or underflows\. Rescale the"):
        quick().fit(X * unit)
    sign = "-" if unit < 1 else r"\+"
    with pytest.raises(
        ValueError, match=rf"deviation of column \d of X is .*e{sign}1\d\d, whose"
    ):  # not the 1 that constant columns have
        VAEGenerator(1).fit(np.hstack([X * unit, np.ones((len(X), 1))]))


@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [
        (np.full((4, 5), np.nan), ValueError, r"values in 0 sample\(s\).* every value is missing are left out"),
        (np.where(X > 2, np.inf, X), ValueError, "contains infinity"),
        ([["a", "b"], ["c", "d"]], ValueError, "could not convert string to float"),
        (X[:0], ValueError, r"0 sample\(s\)"),
        (X[:1], ValueError, r"1 sample\(s\)"),
        (X[:, :0], ValueError, r"0 feature\(s\)"),
        (X[0], ValueError, "Expected 2D array"),
        (X[:, :4].reshape(-1, 1, 2, 2), ValueError, r"array with dim 4.*Flatten images by X.reshape\(len\(X\), -1\)"),
        (X + 1j, ValueError, "Complex data not supported"),
    ],
)
def test_bad_rows_are_named(rows, error, message):
    for method in ("fit", "partial_fit"):
        with pytest.raises(error, match=message):
            getattr(quick(), method)(rows)


@pytest.mark.parametrize(
    ("loss", "message"),
    [("log_loss", r"needs values in \[0, 1\], but X has values from -.* to .*MinMaxScaler"), ("poisson", "at least 0")],
)
def test_rows_outside_the_range_of_the_loss_are_refused(loss, message):
    with pytest.raises(ValueError, match=message):
        quick(loss=loss).fit(X)
    fitted = quick(loss=loss, max_iter=0).fit(np.abs(X) / 10)
    with pytest.raises(ValueError, match=message):
        fitted.transform(X)


def test_a_rounding_error_beyond_one_is_no_mistake():
    quick(loss="log_loss").fit(np.clip(np.abs(X), 0, 1) * (1 + 1e-12))


@pytest.mark.usefixtures("default_networks")
def test_wrong_widths_are_named():
    model = quick().fit(X)
    with pytest.raises(ValueError, match=r"X has 3 columns, but the codes .* n_components_=2"):
        model.inverse_transform(np.zeros((4, 3)))
    with pytest.raises(ValueError, match="X has 4 features, but AutoencoderTransformer is expecting 5"):
        model.transform(X[:, :4])
    with pytest.raises(ValueError, match="expecting 5"):
        model.partial_fit(X[:, :4])
    with pytest.raises(ValueError, match="expecting 5"):
        quick().fit(X, X_val=X[:, :4])


@pytest.mark.parametrize("estimator", [AutoencoderTransformer, VAEGenerator])
def test_dates_are_no_numbers(estimator):
    dates = pd.DataFrame({"x": np.arange(9.0), "start": pd.date_range("2024-01-01", periods=9)})
    for rows, message in (
        (dates, r"Column 'start' of X is of dtype datetime64.*days since"),
        (dates[["start"]].to_numpy(), r"X is of dtype datetime64"),
        (dates[["start"]] - dates["start"][0], r"Column 'start' of X is of dtype timedelta64"),
        (
            pl.DataFrame({"x": np.arange(9.0), "start": dates["start"].tolist()}),
            r"Column 'start' of X is of dtype Date",
        ),
    ):
        asks = [estimator(1).fit, lambda rows: reconstruction_error(PCA(1), rows), partial(compare, cv=2)]
        asks += [VAEGenerator(1, likelihood="auto").fit, LatentSizeCV(AutoencoderTransformer(), [1]).fit]
        for ask in asks:
            with pytest.raises(ValueError, match=message):
                ask(rows)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_what_is_masked_is_missing(curve):
    hidden = np.random.RandomState(0).uniform(size=curve.shape) < 0.1
    masked = np.ma.masked_array(np.where(hidden, -9999, curve), hidden)
    gaps = np.where(hidden, np.nan, curve)
    models = [AutoencoderTransformer(2, max_iter=2, random_state=0).fit(rows) for rows in (masked, gaps)]
    np.testing.assert_array_equal(models[0].impute(masked), models[1].impute(gaps))
    whole = np.ma.masked_array(np.arange(12).reshape(6, 2), np.eye(6, 2, dtype=bool))
    assert AutoencoderTransformer(1, max_iter=0).fit(whole).mean_ == pytest.approx([6, 6.6])
    for likelihood in ("gaussian", "auto", {0: "gaussian"}):
        model = VAEGenerator(2, likelihood=likelihood, max_iter=0).fit(masked[:100])
        assert model.score(masked[:100]) == model.score(gaps[:100])
    search = LatentSizeCV(AutoencoderTransformer(max_iter=2, random_state=0), [1, 2], cv=2)
    searches = [clone(search).fit(rows) for rows in (masked, gaps)]
    np.testing.assert_array_equal(searches[0].transform(masked), searches[1].transform(gaps))
    errors = [reconstruction_error(models[0], rows) for rows in (masked, gaps)]
    assert errors[0] == errors[1] < 100
    with pytest.raises(ValueError, match=r"[Cc]omplex"):
        AutoencoderTransformer(1).fit(masked.astype(complex))


def test_validation_rows_of_nothing_are_refused(curve):
    with pytest.raises(ValueError, match="Every value of X_val is missing"):
        AutoencoderTransformer(1).fit(curve, X_val=np.full((3, 5), np.nan))


def test_validation_rows_need_early_stopping():
    with pytest.raises(ValueError, match="early_stopping=True"):
        quick(early_stopping=False).fit(X, X_val=X)


def test_the_first_batch_needs_more_rows_than_components():
    with pytest.raises(ValueError, match=r"more samples than n_components=3, but X has 3"):
        quick(3).partial_fit(X[:3])


@pytest.mark.usefixtures("default_networks")
def test_a_failed_refit_leaves_an_estimator_that_is_not_fitted():
    model = quick().fit(X)
    model.set_params(n_components=99)
    with pytest.raises(ValueError, match="n_components=99"):
        model.fit(X[:, :3])
    for method in ("transform", "score", "score_samples", "inverse_transform"):
        with pytest.raises(NotFittedError):
            getattr(model, method)(X)


def test_a_failed_partial_fit_changes_nothing():
    model = quick().partial_fit(X)
    before = model.transform(X)
    with pytest.raises(ValueError, match="infinity"):
        model.partial_fit(np.full((4, 5), np.inf))
    np.testing.assert_array_equal(model.transform(X), before)
    assert model.n_iter_ == 1


class Breaks(Callback):
    def on_epoch_end(self, net, **kwargs):
        raise RuntimeError("broken callback")


def test_an_error_inside_training_leaves_what_was_there():
    model = quick().partial_fit(X)
    before = model.transform(X)
    model.net_.callbacks_ = [("breaks", Breaks())]
    with pytest.raises(RuntimeError, match="broken callback"):
        model.partial_fit(X)
    np.testing.assert_array_equal(model.transform(X), before)
    with pytest.raises(RuntimeError, match="broken callback"):
        model.set_params(callbacks=[Breaks()]).fit(X)
    with pytest.raises(NotFittedError):
        model.transform(X)


class Stop(Callback):
    """Ends training after the third epoch."""

    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == 3:
            raise KeyboardInterrupt


class Poison(Callback):
    """Breaks a weight in each epoch after the third."""

    def on_epoch_begin(self, net, **kwargs):
        if len(net.history) >= 4:
            with torch.no_grad():
                net.module_.encoder.path.weight.fill_(float("nan"))


@pytest.mark.parametrize("early_stopping", [True, False])
def test_a_loss_that_stays_nan_goes_back_to_the_best_weights_with_one_warning(curve, early_stopping):
    parameters = {"max_iter": 17, "learning_rate_init": 1e-2, "early_stopping": early_stopping}  # each one is validated
    with pytest.warns(ConvergenceWarning, match="no longer finite") as caught:
        model = quick(1, callbacks=[Poison()], **parameters).fit(curve)
    assert len(caught) == 1
    assert model.n_iter_ == 4 + 3  # three times with smaller steps
    stopped = quick(1, callbacks=[Stop()], **parameters).fit(curve)
    losses = stopped.validation_loss_curve_ if early_stopping else stopped.loss_curve_
    assert losses == sorted(losses, reverse=True)  # so the third epoch's weights are the best
    assert model.best_loss_ == stopped.best_loss_ == pytest.approx(losses[-1], rel=0.01)
    np.testing.assert_allclose(model.transform(curve), stopped.transform(curve))


def test_a_pass_that_diverges_is_undone():
    model = quick().partial_fit(X)
    before = model.transform(X)
    with pytest.warns(ConvergenceWarning, match="no longer finite"):
        model.set_params(learning_rate_init=1e38).partial_fit(X)
    np.testing.assert_array_equal(model.transform(X), before)


class Interrupts(Callback):
    """Presses Ctrl-C in the middle of the fourth epoch."""

    def on_batch_end(self, net, training=False, **kwargs):
        if len(net.history) == 4 and training:
            raise KeyboardInterrupt


def test_ctrl_c_keeps_the_best_weights(curve):
    model = quick(max_iter=17, learning_rate_init=1e-2, callbacks=[Interrupts()])
    model.fit(curve[:200], X_val=curve[200:])
    assert model.n_iter_ == 3
    assert model.best_loss_ == pytest.approx(min(model.validation_loss_curve_), rel=0.01)
    assert model.best_loss_ < model.linear_loss_
    assert reconstruction_error(model, curve[200:]) == pytest.approx(model.best_loss_, rel=1e-3)


def test_weights_that_never_were_finite_go_back_to_the_start():
    with pytest.warns(ConvergenceWarning, match="no longer finite"):
        model = quick(learning_rate_init=1e30, early_stopping=False).fit(X)
    assert model.best_loss_ == model.linear_loss_
    np.testing.assert_allclose(model.transform(X), PCA(2).fit_transform(X), atol=1e-9)


@pytest.mark.parametrize("estimator", [AutoencoderTransformer, VAEGenerator])  # of which the latter has collapsed
def test_a_warning_points_at_the_line_that_fits(estimator):
    with pytest.warns(ConvergenceWarning) as warned:
        estimator(1, max_iter=2, random_state=0).fit(np.ones((30, 3)))
    assert {warning.filename for warning in warned} == {__file__}


def test_a_real_signal_stops_a_long_fit():
    timer = threading.Timer(0.2, signal.raise_signal, [signal.SIGINT])

    class StartsTheTimer(Callback):
        def on_epoch_end(self, net, **kwargs):
            if len(net.history) == 2:
                timer.start()

    model = AutoencoderTransformer(max_iter=10**6, n_iter_no_change=10**6, callbacks=[StartsTheTimer()], random_state=0)
    found = signal.signal(signal.SIGINT, signal.default_int_handler)  # a process in the background may ignore it
    began = time.perf_counter()
    try:
        with pytest.warns(UserWarning, match="interrupted"):
            model.fit(X)
    finally:
        signal.signal(signal.SIGINT, found)
    assert time.perf_counter() - began < 30
    assert 2 <= model.n_iter_ < 10**6
    assert np.isfinite(model.score(X))


def test_a_start_far_off_warns_once_and_stays_finite():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = quick(learning_rate_init=1e6, max_iter=30).fit(X)
    assert [warning.category for warning in caught] == [ConvergenceWarning]
    np.testing.assert_allclose(model.transform(X), PCA(2).fit_transform(X), atol=1e-9)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "model",
    [
        AutoencoderTransformer(2, max_iter=0),
        AutoencoderTransformer(2, max_iter=0, start="random", encoder=nn.Linear, decoder=nn.Linear),
        VAEGenerator(2, max_iter=0),
        VAEGenerator(2, max_iter=0, conditional=True),
    ],
    ids=["scaled", "raw", "vae", "conditional"],
)
def test_transform_finds_infinities_wherever_they_are(model, dtype, monkeypatch):
    monkeypatch.setattr("skae._torch._EVALUATED_SAMPLES", 100)
    model = clone(model).fit(X, np.arange(len(X)) % 2)
    rows = np.tile(X, (8, 1)).astype(dtype)  # several blocks
    np.testing.assert_allclose(model.transform(rows[: len(X)]), model.transform(X), rtol=1e-3, atol=1e-3)
    rows[0] = np.finfo(dtype).max / 2  # whose square is infinite
    model.transform(rows)
    for order in "CF":
        rows = np.array(rows, order=order)
        rows[-1, 3] = np.inf
        with pytest.raises(ValueError, match="Input X contains infinity"):
            model.transform(rows)
    with config_context(assume_finite=True):
        model.transform(rows)


@pytest.mark.parametrize("estimator", [AutoencoderTransformer, VAEGenerator])
def test_components_are_at_most_a_thousand_or_the_columns(estimator):
    with pytest.raises(ValueError, match="n_components=1001 is more than 1000 and than the 2 columns of X"):
        estimator(1001, max_iter=0).fit(np.random.RandomState(0).normal(size=(1100, 2)))
