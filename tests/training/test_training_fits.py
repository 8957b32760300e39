"""What training makes of fits of both estimators: callbacks, modes of torch, and steps that are too large."""

import copy
import pickle
import threading
from contextlib import contextmanager

import joblib
import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from skorch import NeuralNet
from skorch.callbacks import (
    Callback,
    Checkpoint,
    EarlyStopping,
    EpochScoring,
    EpochTimer,
    LRScheduler,
    TensorBoard,
    WandbLogger,
)
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from skae import AutoencoderTransformer, LatentSizeCV, VAEGenerator, reconstruction_error
from skae.networks.model import Model
from skae.training.net import Net

pytestmark = pytest.mark.usefixtures("narrow_networks", "rough_estimates")

IMAGES = {"feature_shape": (1, 8, 8)}


def digits():
    return load_digits().data


def test_a_fit_without_validation_copies_no_row(curve):
    """What is trained on is the caller's own array where the net takes rows as they are."""
    seen = []

    class Look(Callback):
        def on_train_begin(self, net, X=None, **kwargs):
            seen.append(X.inputs.data_ptr())

    X = np.ascontiguousarray(curve, dtype=np.float32)
    before = X.copy()
    model = AutoencoderTransformer(
        encoder=torch.nn.Linear, decoder=torch.nn.Linear, start="random", early_stopping=False, max_iter=2
    )
    model.set_params(callbacks=[Look()]).fit(X)
    assert seen == [X.ctypes.data]
    np.testing.assert_array_equal(X, before)


def test_a_random_start_is_judged_as_it_is(curve):
    """An average with random weights would be no model of anything."""
    parameters = {"start": "random", "hidden_layer_sizes": (16,), "max_iter": 3, "random_state": 0}
    judged = AutoencoderTransformer(2, **parameters).fit(curve, X_val=curve)
    plain = AutoencoderTransformer(2, **parameters, early_stopping=False).fit(curve)
    np.testing.assert_allclose(judged.transform(curve), plain.transform(curve))


def test_the_net_is_skorchs_and_its_history_in_reach(curve):
    model = AutoencoderTransformer(max_iter=4, random_state=0).fit(curve)
    assert isinstance(model.net_, NeuralNet)
    assert not isinstance(model, NeuralNet)
    assert len(model.net_.history) == 4
    squared = model.net_.module_.scaler.scale.item() ** 2
    np.testing.assert_allclose(model.net_.history[:, "train_loss"], np.array(model.loss_curve_) / squared)
    assert min(model.net_.history[:, "dur"]) > 0


@pytest.mark.parametrize(
    ("parameters", "clipped"), [({}, False), (IMAGES, True), (IMAGES | {"ordered": True, "start": "pca"}, False)]
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("kind", [AutoencoderTransformer, VAEGenerator])
def test_gradients_are_clipped_for_images_alone(kind, parameters, clipped):
    model = kind(2, max_iter=1, random_state=0, **parameters).fit(digits()[:60])
    assert model.net_.clipped == clipped


@pytest.mark.parametrize(
    ("kind", "parameters", "rate", "later"),
    [
        (AutoencoderTransformer, {}, 1e-2, 3e-3),
        (AutoencoderTransformer, {"hidden_layer_sizes": (256,)}, 8e-3, 3e-3),
        (AutoencoderTransformer, {"ordered": True}, 6e-3, 3e-3),
        (AutoencoderTransformer, IMAGES, 5e-3, 3e-3),
        (AutoencoderTransformer, {"start": "random"}, 3e-3, 3e-3),
        (AutoencoderTransformer, IMAGES | {"start": "random"}, 3e-3, 3e-3),
        (VAEGenerator, {}, 1.2e-2, 3e-3),
        (VAEGenerator, {"hidden_layer_sizes": (256,)}, 8e-3, 3e-3),
        (VAEGenerator, {"likelihood": "auto"}, 3e-3, 3e-3),
        (VAEGenerator, IMAGES, 3e-3, 3e-3),
        (VAEGenerator, {"start": "random"}, 3e-3, 3e-3),
        (VAEGenerator, {"ordered": True, "start": "pca"}, 6e-3, 3e-3),
    ],
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_the_rate_follows_the_kind_of_network_and_is_smaller_in_further_passes(kind, parameters, rate, later):
    X = digits()[:60]
    model = kind(2, max_iter=1, random_state=0, **parameters).fit(X)
    assert model.net_.lr == pytest.approx(rate)
    assert model.partial_fit(X).net_.lr == pytest.approx(later)


def test_a_stream_of_batches_hardly_worsens_a_fitted_autoencoder():
    X = digits()[:600]
    model = AutoencoderTransformer(8, hidden_layer_sizes=(256, 128), max_iter=60, random_state=0).fit(X[:400])
    before = reconstruction_error(model, X[400:])
    for batch in np.split(X[:400], 4):
        model.partial_fit(batch)
    assert reconstruction_error(model, X[400:]) < 1.05 * before


@pytest.mark.parametrize("parameters", [{}, IMAGES])
def test_training_goes_on_after_steps_that_were_too_large(parameters):
    X = digits()[:100]
    model = AutoencoderTransformer(2, max_iter=3, learning_rate_init=1e30, random_state=0, **parameters)
    with pytest.warns(ConvergenceWarning):
        model.fit(X)
    codes = pickle.loads(pickle.dumps(model)).transform(X)
    np.testing.assert_array_equal(codes, model.transform(X))
    with pytest.warns(ConvergenceWarning):
        model.partial_fit(X)
    np.testing.assert_array_equal(codes, model.transform(X))
    model = pickle.loads(pickle.dumps(model)).set_params(learning_rate_init=1e-4).partial_fit(X)
    assert np.isfinite(model.transform(X)).all()
    assert reconstruction_error(model, X) < np.square(X - X.mean(0)).mean()
    assert np.any(codes != model.transform(X))


@pytest.mark.parametrize(("kind", "n_epochs"), [(AutoencoderTransformer, 8), (VAEGenerator, 6)])
def test_components_in_order_train_a_share_of_the_epochs(kind, n_epochs, curve):
    model = kind(2, ordered=True, max_iter=20, early_stopping=False, start="pca", random_state=0).fit(curve)
    assert model.n_iter_ == n_epochs


def test_training_does_not_import_a_compiler_without_training(curve):
    model = AutoencoderTransformer(max_iter=0).fit(curve)
    assert model.net_.optimizer_ is None


def test_callbacks_change_no_result_and_are_cloned(curve):
    stopping = EarlyStopping(monitor="valid_loss", patience=100)
    before = dict(vars(stopping))
    with_callbacks = AutoencoderTransformer(max_iter=5, callbacks=[("stop", stopping)], random_state=0).fit(curve)
    without = AutoencoderTransformer(max_iter=5, random_state=0).fit(curve)
    np.testing.assert_array_equal(with_callbacks.transform(curve), without.transform(curve))
    assert vars(stopping) == before


def test_only_this_process_generator_is_seeded(monkeypatch, curve):
    """torch.manual_seed would also seed devices that nothing restores."""
    monkeypatch.setattr(torch, "manual_seed", lambda seed: pytest.fail("every device was seeded"))
    AutoencoderTransformer(max_iter=1, encoder=torch.nn.Linear, early_stopping=False, random_state=0).fit(curve)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(
    "model",
    [
        AutoencoderTransformer(2),
        AutoencoderTransformer(3, ordered=True),
        AutoencoderTransformer(2, loss="poisson"),
        VAEGenerator(2),
        VAEGenerator(3, ordered=True),
        VAEGenerator(2, likelihood="poisson"),
        VAEGenerator(2, likelihood="auto"),
    ],
)
def test_skorchs_epoch_scoring_compares_reconstructions_with_samples(model, curve):
    """The error of what `net_` is trained on: scaled samples or, with another link, those in units of X."""
    is_count = "poisson" in (model.get_params().get("loss"), model.get_params().get("likelihood"))
    X = np.random.RandomState(0).poisson(np.exp(curve)) if is_count else curve
    scoring = EpochScoring("neg_mean_squared_error", lower_is_better=False)
    model = clone(model).set_params(max_iter=6, random_state=0, callbacks=[scoring]).fit(X, X_val=X)
    network, errors = model.net_.module_, -np.array(model.net_.history[:, "neg_mean_squared_error"])
    is_scaled = network.scaler.is_identity
    table = model._open(X)[:]
    targets = network.scaler(torch.from_numpy(table)).numpy() if is_scaled else table
    with torch.no_grad():
        predicted = model.net_.predict(network.scaler(torch.from_numpy(table)))
    np.testing.assert_allclose(np.square(predicted - targets).mean(), errors.min(), rtol=0.2)
    assert errors.min() < 0.5 * np.square(targets - targets.mean(axis=0)).mean()


def test_settings_of_named_callbacks_are_parameters(curve):
    model = AutoencoderTransformer(2, max_iter=9, random_state=0, callbacks=[("stop", EarlyStopping(threshold=10))])
    search = GridSearchCV(model, {"callbacks__stop__patience": [2, 3]}, cv=2).fit(curve)
    assert search.best_estimator_.n_iter_ == 1 + search.best_params_["callbacks__stop__patience"]
    assert model.get_params()["callbacks__stop__patience"] == 5
    model.set_params(callbacks__stop__patience=4)
    assert model.callbacks[0][1].patience == 4
    other = EarlyStopping()
    model.set_params(callbacks__stop__patience=7, callbacks__stop=other)  # in whatever order
    assert model.callbacks == [("stop", other)]
    assert other.patience == 7
    assert clone(model).set_params(**model.get_params()).get_params(deep=False).keys() == model.get_params(False).keys()


def test_settings_of_named_callbacks_are_parameters_of_a_search_over_sizes(curve):
    model = AutoencoderTransformer(max_iter=50, random_state=0, callbacks=[("stop", EarlyStopping(threshold=10))])
    search = LatentSizeCV(model, (1, 2), cv=2).set_params(estimator__callbacks__stop__patience=2)
    assert search.fit(curve).best_estimator_.n_iter_ == 3


@pytest.mark.parametrize("callbacks", [None, [EarlyStopping()], [("stop", EarlyStopping)], "text", 3])
def test_a_setting_of_a_callback_without_this_name_is_an_error(callbacks):
    model = AutoencoderTransformer(callbacks=callbacks)
    assert not [name for name in model.get_params() if "__" in name]
    with pytest.raises(
        ValueError, match=r"named 'stop' .*callbacks__stop__patience .*callbacks=\[\('stop', callback\), \.\.\.\]"
    ):
        model.set_params(callbacks__stop__patience=3)


def test_skorchs_epoch_scoring_can_ask_the_net(curve):
    def error(net, X, y=None):
        z, eta = net.forward(X)
        assert z.shape == (len(X), 2)
        return float((eta - X[:][0]).square().mean())

    callback = EpochScoring(error, name="error", use_caching=False)
    model = AutoencoderTransformer(max_iter=2, callbacks=[callback], random_state=0).fit(curve)
    np.testing.assert_allclose(model.net_.history[:, "error"], model.net_.history[:, "valid_loss"], rtol=1e-4)


class Waits(TorchDispatchMode):
    """Counts numbers that torch hands to Python, for which it waits until a device has computed them."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function is torch.ops.aten._local_scalar_dense.default
        return function(*args, **kwargs or {})


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(
    "model",
    [
        AutoencoderTransformer(2),
        AutoencoderTransformer(2, ordered=True),
        AutoencoderTransformer(2, feature_shape=(1, 8, 8)),
        AutoencoderTransformer(2, loss="poisson", alpha=0.1, noise=0.1, sparsity=0.1),
        VAEGenerator(2),
        VAEGenerator(2, ordered=True),
        VAEGenerator(2, likelihood="multinomial"),
        VAEGenerator(2, likelihood="negative_binomial"),
    ],
)
def test_no_step_waits_for_a_device(model, monkeypatch):
    monkeypatch.setattr(Model, "choose_refinement", lambda self, x, loss, most: most)  # choices differ in their waits
    X, counts = digits()[:320], []
    for batch_size in (32, 64):
        with Waits() as waits:
            model.set_params(batch_size=batch_size, max_iter=2, random_state=0, learning_rate_init=3e-3)
            model.fit(X[:300], X_val=X[300:])
        counts.append(waits.count)
    assert counts[0] == counts[1] > 0


def test_the_state_is_numpy_and_plain_python(curve):
    def leaves(value):
        if isinstance(value, dict):
            return {leaf for item in value.items() for part in item for leaf in leaves(part)}
        if isinstance(value, list | tuple):
            return {leaf for item in value for leaf in leaves(item)}
        return {type(value)}

    for model in (
        AutoencoderTransformer(max_iter=2, random_state=0).fit(curve),
        AutoencoderTransformer(random_state=0).partial_fit(curve),
    ):
        kinds = leaves(model.__getstate__())
        assert kinds <= {np.ndarray, str, int, float, bool, type(None), np.str_}, kinds
    assert isinstance(model.net_, Net)


@pytest.mark.parametrize("estimator", [AutoencoderTransformer, VAEGenerator])
def test_a_fit_that_diverges_at_once_is_its_start_with_its_loss(curve, estimator):
    model = estimator(start="random", early_stopping=False, learning_rate_init=1e10, max_iter=2, random_state=0)
    with pytest.warns(ConvergenceWarning, match="no longer finite") as caught:
        model.fit(curve)
    assert len(caught) == 1
    start = estimator(start="random", early_stopping=False, max_iter=0, random_state=0).fit(curve)
    assert model.best_loss_ == pytest.approx(start.best_loss_, rel=1e-5)
    np.testing.assert_array_equal(model.transform(curve), start.transform(curve))


def test_an_interrupt_in_the_first_epoch_leaves_a_fitted_estimator(curve):
    class Interrupt(Callback):
        def on_batch_end(self, net, **kwargs):
            raise KeyboardInterrupt

    model = AutoencoderTransformer(start="random", early_stopping=False, callbacks=[Interrupt()], random_state=0)
    model.fit(curve)
    assert np.isfinite(model.best_loss_)


@contextmanager
def other_device():
    torch.set_default_device("meta")  # a device without memory, so that what is made there cannot be used
    try:
        yield
    finally:
        torch.set_default_device(None)


def low_precision():
    return torch.autocast("cpu", torch.bfloat16)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(
    "mode", [other_device, *(pytest.param(m, marks=pytest.mark.slow) for m in (torch.inference_mode, low_precision))]
)
@pytest.mark.parametrize(
    "model",
    [
        AutoencoderTransformer(2, encoder=nn.Linear),
        AutoencoderTransformer(3, ordered=True, noise=0.1),
        VAEGenerator(2, prior="mixture"),
        VAEGenerator(3, ordered=True),
        VAEGenerator(2, conditional=True),
        VAEGenerator(2, likelihood="auto"),
    ],
    ids=str,
)
def test_in_whatever_mode_of_torch_the_results_are_the_same(curve, mode, model):
    model.set_params(max_iter=2, random_state=0)
    X, y = np.where(np.arange(curve.size).reshape(curve.shape) % 7, curve, np.nan)[:40], curve[:40, 0] > 0

    def results():
        codes = model.fit(X, y).transform(X)
        yield from (codes, model.inverse_transform(codes), model.sample(9, random_state=0), model.impute(X))
        yield from (model.score_samples(X), pickle.loads(pickle.dumps(model)).transform(X))
        if isinstance(model, VAEGenerator):
            yield from (model.log_likelihood(X), *model.impute(X, n_draws=2, random_state=0))
        if model.ordered:
            yield model.truncate(1).score_samples(X)
        if not getattr(model, "conditional", False):
            yield model.partial_fit(X).transform(X)

    expected = list(results())
    with mode():
        found = list(results())
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_own_modules_may_be_in_torchs_default_precision(curve):
    model = AutoencoderTransformer(2, encoder=nn.Linear, decoder=nn.Linear, max_iter=2, random_state=0)
    torch.set_default_dtype(torch.float64)
    try:
        twin = pickle.loads(pickle.dumps(model.fit(curve)))
    finally:
        torch.set_default_dtype(torch.float32)
    np.testing.assert_array_equal(twin.transform(curve), model.transform(curve))


def test_a_seed_gives_the_same_fit_whatever_torchs_default_precision(curve):
    models = [kind(start="random", max_iter=2, random_state=0) for kind in (AutoencoderTransformer, VAEGenerator)]
    expected = [model.fit(curve).sample(100, random_state=0) for model in models]
    torch.set_default_dtype(torch.float64)
    try:
        found = [model.fit(curve).sample(100, random_state=0) for model in models]
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    finally:
        torch.set_default_dtype(torch.float32)


def test_sparsity_bears_components_that_are_zero():
    with pytest.warns(ConvergenceWarning, match="linear start"):
        model = AutoencoderTransformer(max_iter=2, sparsity=0.1).fit(np.ones((30, 3)))
    assert model.best_loss_ == 0


class Writer(Callback):
    """A callback that cannot be copied, as one with an open file."""

    def __init__(self):
        self.lock, self.epochs = threading.Lock(), 0

    def on_epoch_end(self, net, **kwargs):
        self.epochs += 1


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(
    "callback",
    [
        EarlyStopping(patience=2),
        EpochTimer(),
        EpochTimer,
        ("timer", EpochTimer()),
        LRScheduler("StepLR", step_size=2),
        EpochScoring("neg_mean_squared_error"),
    ],
    ids=lambda callback: str(getattr(callback, "__name__", type(callback).__name__)),
)
def test_a_single_callback_need_not_be_in_a_list(callback, curve):
    model = AutoencoderTransformer(2, max_iter=3, callbacks=callback, random_state=0)
    once = clone(model).fit(curve).transform(curve)
    in_list = clone(model).set_params(callbacks=[callback]).fit(curve)
    np.testing.assert_array_equal(in_list.transform(curve), once)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(in_list)).transform(curve), once)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_checkpoints_of_skorch_are_written(curve, tmp_path):
    model = AutoencoderTransformer(2, max_iter=2, callbacks=Checkpoint(dirname=tmp_path, f_optimizer=None)).fit(curve)
    assert (tmp_path / "params.pt").exists()
    assert len(model.net_.history) == 2


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("named", [False, True])
def test_callbacks_that_cannot_be_copied_are_shared_by_clones(named, curve):
    writer = Writer()
    model = AutoencoderTransformer(2, max_iter=2, callbacks=("writer", writer) if named else writer, random_state=0)
    model.set_output(transform="pandas")
    copied = clone(model)
    assert (copied.callbacks[1] if named else copied.callbacks) is writer
    assert copied.get_params(deep=False).keys() == model.get_params(deep=False).keys()
    assert type(copied.fit_transform(curve)).__name__ == "DataFrame"
    GridSearchCV(model, {"n_components": [1, 2]}, cv=2).fit(curve)
    assert writer.epochs == 2 * (1 + 4 + 1)
    with pytest.warns(UserWarning, match=r"leaves out callbacks that cannot be copied: .*Writer"):
        file = pickle.dumps(copied)
    loaded = pickle.loads(file)
    assert loaded.callbacks is None
    assert loaded.transform(curve).equals(copied.transform(curve))
    timed = clone(model).set_params(callbacks=[writer, EpochTimer()])
    with pytest.warns(UserWarning, match="leaves out"):
        assert [type(each) for each in pickle.loads(pickle.dumps(timed.fit(curve))).callbacks] == [EpochTimer]


@pytest.mark.filterwarnings("ignore:The copy or file leaves out:UserWarning")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.FitFailedWarning")
@pytest.mark.workers
def test_an_error_names_callbacks_that_worker_processes_cannot_have(curve):
    writers = Writer(), ("writer", Writer())
    models = [AutoencoderTransformer(2, max_iter=1, callbacks=[EpochTimer(), w], random_state=0) for w in writers]
    for model in models:
        search = GridSearchCV(model, {"n_components": [1, 2]}, cv=2, n_jobs=2)
        with pytest.raises(
            ValueError, match=r"(?s)fits failed.*callbacks holds Writer, which cannot be copied.*n_jobs=1"
        ):
            search.fit(curve)
    # Its error ends the workers, so there is one for both: what holds the names is what is sent to workers.
    with pytest.raises(ValueError, match="callbacks holds Writer"):
        LatentSizeCV(model, (1, 2), cv=2, n_jobs=2).fit(curve)


@pytest.mark.filterwarnings("ignore:The copy or file leaves out:UserWarning")
@pytest.mark.parametrize("named", [False, True])
def test_an_error_names_callbacks_that_copies_cannot_have(named, curve):
    writer = ("writer", Writer()) if named else Writer()
    model = AutoencoderTransformer(2, max_iter=1, callbacks=[EpochTimer(), writer], random_state=0)
    with joblib.parallel_config("threading"):
        assert LatentSizeCV(model, (1, 2), cv=2, n_jobs=2).fit(curve).transform(curve).shape[0] == len(curve)
    copied = pickle.loads(pickle.dumps(model))
    for other in (copied, clone(copied)):
        with pytest.raises(ValueError, match="callbacks holds Writer"):
            other.fit(curve)
    assert copied.set_params(callbacks=None).fit(curve).n_iter_ == 1


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("search_class", [GridSearchCV, LatentSizeCV])
def test_a_fitted_search_with_a_callback_that_cannot_be_copied_is_saved(search_class, curve):
    model = AutoencoderTransformer(2, max_iter=1, callbacks=Writer(), random_state=0)
    options = [{"n_components": [1, 2]}] if search_class is GridSearchCV else [(1, 2)]
    search = search_class(model, *options, cv=2).fit(curve)
    with pytest.warns(UserWarning, match=r"leaves out callbacks that cannot be copied: .*Writer"):
        again = pickle.loads(pickle.dumps(search))
    np.testing.assert_array_equal(again.transform(curve), search.transform(curve))


class Log:
    """What TensorBoard's writer and a run of Weights & Biases have: a lock, and methods that record."""

    def __init__(self, folder):
        self.lock, self.dir, self.seen = threading.Lock(), str(folder), []

    def add_scalar(self, tag, **kwargs):
        self.seen.append(tag)

    def log(self, row, **kwargs):
        self.seen.extend(row)

    def watch(self, module):
        assert isinstance(module, nn.Module)

    def close(self):
        self.lock = None


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("logger", [TensorBoard, WandbLogger])
def test_loggers_get_the_losses_of_each_epoch(logger, curve, tmp_path):
    log = Log(tmp_path)
    clone(VAEGenerator(2, max_iter=3, callbacks=logger(log), random_state=0)).fit(curve)
    assert len(log.seen) == 9
    assert {name.split("/")[-1].removesuffix("_loss") for name in log.seen} >= {"train", "valid"}


def test_copies_keep_callbacks_of_functions(curve):
    still = AutoencoderTransformer(2, callbacks=[LRScheduler("LambdaLR", lr_lambda=lambda epoch: 0.0)], max_iter=2)
    still.set_params(early_stopping=False, random_state=0)
    assert len(copy.deepcopy(still).callbacks) == 1
    losses = copy.deepcopy(still).fit(curve).loss_curve_
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
