"""Nothing lost: a fit that is killed goes on to the same end, and another one is refused by what differs."""

import os

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from skorch.callbacks import Callback, LRScheduler
from torch import nn

from skae import AutoencoderTransformer, VAEGenerator
from skae._fit import Fit
from skae.data import rows as sources
from skae.training import checkpoint
from skae.training.checkpoint import LOCK, NAME
from skae.training.net import Net

pytestmark = pytest.mark.usefixtures("narrow_networks", "rough_estimates")


class Killed(BaseException):
    """What ends a fit in the middle of a step; nothing in skae catches it."""


@pytest.fixture(autouse=True)
def every_epoch(monkeypatch):
    """A state is written after each epoch, not once in ten seconds."""
    monkeypatch.setattr(checkpoint, "SECONDS", 0.0)


def kill_at(step, fit):
    """Run a fit as far as this step of the optimiser."""
    steps, train_step = 0, Net.train_step

    def count(self, batch, **kwargs):
        nonlocal steps
        steps += 1
        if steps == step:
            raise Killed
        return train_step(self, batch, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Net, "train_step", count)
        with pytest.raises(Killed):
            fit()


def epochs_kept(folder):
    """Epochs in the history of a checkpoint, and how its fit ended, if it did."""
    state = checkpoint.read(folder / NAME)["state"]
    return len(state["history"]), state["outcome"]


def assert_same_fit(found, expected, X):
    """Bit for bit, whatever a fit leaves."""
    for (name, a), b in zip(
        found.net_.module_.state_dict().items(), expected.net_.module_.state_dict().values(), strict=True
    ):
        a, b = (torch.as_tensor(part).numpy(force=True) for part in (a, b))  # one is no tensor; or on a GPU
        np.testing.assert_array_equal(a, b, err_msg=name)
    assert found.net_.outcome_ == expected.net_.outcome_
    for name in ("loss_curve_", "validation_loss_curve_", "best_loss_", "linear_loss_", "n_iter_", "n_components_"):
        assert getattr(found, name) == getattr(expected, name), name
    np.testing.assert_array_equal(found.transform(X), expected.transform(X))
    for row, other in zip(found.net_.history, expected.net_.history, strict=True):
        assert {k: v for k, v in row.items() if k != "dur"} == {k: v for k, v in other.items() if k != "dur"}


def dropout(n_in, n_out):
    return nn.Sequential(nn.Linear(n_in, 8), nn.BatchNorm1d(8), nn.Dropout(0.2), nn.Linear(8, n_out))


FITS = {
    "default": AutoencoderTransformer(),
    "ordered": AutoencoderTransformer(3, ordered=True),
    "a share": AutoencoderTransformer(0.9),
    "no rows held out": AutoencoderTransformer(early_stopping=False),
    "random start": AutoencoderTransformer(start="random"),
    "noise": AutoencoderTransformer(noise=0.3, alpha=0.1),
    "own modules": AutoencoderTransformer(encoder=dropout, decoder=dropout),
    "own modules alone": AutoencoderTransformer(encoder=dropout, decoder=dropout, start="random"),
    "rates of a callback": AutoencoderTransformer(callbacks=[LRScheduler("StepLR", step_size=2, gamma=0.3)]),
    "one cycle of a callback": AutoencoderTransformer(
        callbacks=LRScheduler(torch.optim.lr_scheduler.OneCycleLR, max_lr=0.01, total_steps=10)
    ),
    "rates by the loss": AutoencoderTransformer(callbacks=[LRScheduler("ReduceLROnPlateau", patience=0)]),
    "VAE": VAEGenerator(),
    "VAE ordered": VAEGenerator(3, ordered=True),
    "VAE of own modules": VAEGenerator(encoder=dropout, decoder=dropout, start="pca", prior="mixture"),
    "VAE without rows held out": VAEGenerator(early_stopping=False, start="pca"),
}
# One of each estimator; whatever else a fit may be is slow, since training's own tests kill nets in all these ways.
CASES = [
    pytest.param(name, step, marks=() if name in ("ordered", "VAE of own modules") else pytest.mark.slow)
    for name, step in [*((name, 20) for name in FITS), ("default", 1), ("default", 24)]
]


@pytest.mark.filterwarnings("ignore:No epoch had")  # so few epochs of so much dropout
@pytest.mark.parametrize(("name", "step"), CASES)
def test_a_fit_that_was_killed_ends_as_if_it_had_not_been(name, step, curve, tmp_path):
    model = clone(FITS[name]).set_params(random_state=0)
    model.set_params(max_iter=14 if name in ("ordered", "a share", "VAE ordered") else 5)
    expected = type(model)(**model.get_params(deep=False)).fit(curve)
    model.set_params(checkpoint=tmp_path)
    kill_at(step, lambda: model.fit(curve))
    assert not hasattr(model, "net_")
    generator = torch.get_rng_state()
    found = type(model)(**model.get_params(deep=False)).fit(curve)
    assert_same_fit(found, expected, curve)
    assert torch.equal(torch.get_rng_state(), generator)
    assert {path.name for path in tmp_path.iterdir()} - {LOCK} == {NAME}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:No epoch had")
def test_images_go_on(tmp_path):
    X = load_digits().data[:200]
    model = AutoencoderTransformer(3, feature_shape=(1, 8, 8), max_iter=4, random_state=0)
    expected = clone(model).fit(X)
    model.set_params(checkpoint=tmp_path)
    kill_at(20, lambda: model.fit(X))
    assert_same_fit(model.fit(X), expected, X)


@pytest.mark.slow
def test_sparse_rows_and_validation_rows_go_on(tmp_path):
    X = csr_matrix(np.random.RandomState(0).poisson(0.5, size=(200, 6)))
    model = VAEGenerator(likelihood="poisson", max_iter=4, random_state=0)
    expected = VAEGenerator(**model.get_params()).fit(X, X_val=X[:30])
    model.set_params(checkpoint=str(tmp_path))
    kill_at(15, lambda: model.fit(X, X_val=X[:30]))
    assert_same_fit(model.fit(X, X_val=X[:30]), expected, X)
    with pytest.raises(ValueError, match=r"differs in X_val='float64 40x6 #\w+' \(there 'float64 30x6 #\w+'\)"):
        model.fit(X, X_val=X[:40])
    other = X.copy()
    other.data[0] += 1
    with pytest.raises(ValueError, match=r"differs in X='float64 200x6 #\w+' \(there 'float64 200x6 #\w+'\)\. "):
        model.fit(other, X_val=X[:30])


@pytest.mark.slow
def test_a_conditional_fit_goes_on_with_the_same_classes_only(curve, tmp_path):
    y = np.where(curve[:, 0] > 0, "up", "down")
    model = VAEGenerator(conditional=True, start="pca", max_iter=3, random_state=0)
    expected = VAEGenerator(**model.get_params()).fit(curve, y)
    model.set_params(checkpoint=tmp_path)
    kill_at(15, lambda: model.fit(curve, y))
    with pytest.raises(ValueError, match=r"differs in y='float\d+ 300x2 #\w+' \(there 'float\d+ 300x2 #\w+'\)\. "):
        model.fit(curve, y[::-1])
    assert_same_fit(model.fit(curve, y), expected, curve)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:No epoch had")
def test_rows_streamed_from_a_file_go_on(curve, tmp_path, monkeypatch):
    for name, value in (("STREAMED_FROM", 0), ("_HELD", 2**8), ("_SHUFFLED_BLOCKS", 4), ("_READ", 2**7)):
        monkeypatch.setattr(sources, name, value)
    np.save(tmp_path / "rows.npy", curve)
    rows = np.load(tmp_path / "rows.npy", mmap_mode="r")
    model = AutoencoderTransformer(max_iter=4, random_state=0, hidden_layer_sizes=(16,))
    expected = clone(model).fit(rows)
    model.set_params(checkpoint=tmp_path / "kept")
    kill_at(20, lambda: model.fit(rows))
    with pytest.raises(
        ValueError, match=r"differs in X='float64 300x5 #(\w+)' \(there 'float64 300x5 #\1 in a file'\)"
    ):
        model.fit(curve)
    assert_same_fit(model.fit(rows), expected, curve)


def test_a_fit_that_had_ended_is_given_at_once(curve, tmp_path, monkeypatch):
    model = AutoencoderTransformer(max_iter=3, random_state=0, checkpoint=tmp_path).fit(curve)
    assert epochs_kept(tmp_path) == (3, "budget")
    written = (tmp_path / NAME).stat().st_mtime_ns
    monkeypatch.setattr(Net, "train_step", lambda *args, **kwargs: pytest.fail("it trained"))
    again = AutoencoderTransformer(max_iter=3, random_state=0, checkpoint=tmp_path).fit(curve)
    assert_same_fit(again, model, curve)
    assert (tmp_path / NAME).stat().st_mtime_ns == written


def test_without_a_random_state_the_seed_is_kept(curve, tmp_path):
    model = AutoencoderTransformer(max_iter=4, checkpoint=tmp_path)
    kill_at(1, lambda: model.fit(curve))
    seed = checkpoint.read(tmp_path / NAME)["seed"]
    np.random.seed(0)
    after_a_draw = np.random.RandomState(0)
    after_a_draw.randint(2**31 - 1)
    kill_at(20, lambda: model.fit(curve))
    assert np.random.randint(10**6) == after_a_draw.randint(10**6)  # one draw
    model.fit(curve)
    assert model._fitted.built.seed == seed
    again = AutoencoderTransformer(max_iter=4, checkpoint=tmp_path / "new", random_state=np.random.RandomState(1))
    kill_at(20, lambda: again.fit(curve))
    with pytest.raises(ValueError, match=r"random_state='generator whose draw was \d+' \(there 'generator whose"):
        again.fit(curve)  # the generator has moved on
    again.set_params(random_state=np.random.RandomState(1)).fit(curve)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"max_iter": 4}, r"differs in max_iter=4 \(there 3\)\. .*To resume, restore that, or name another folder"),
        ({"random_state": 1, "hidden_layer_sizes": (8,)}, r"hidden_layer_sizes=\[8\].*, random_state=1 \(there 0\)\. "),
        ({"encoder": dropout}, r"differs in encoder='dropout' \(there None\)\. "),
        ({"callbacks": [LRScheduler()]}, r"differs in callbacks=\[.LRScheduler\(.*\).\] \(there None\)\. "),
    ],
)
def test_other_parameters_are_refused_by_name(changed, said, curve, tmp_path):
    AutoencoderTransformer(max_iter=3, random_state=0, checkpoint=tmp_path).fit(curve)
    before = (tmp_path / NAME).read_bytes()
    with pytest.raises(ValueError, match=said):
        AutoencoderTransformer(**{"max_iter": 3, "random_state": 0} | changed, checkpoint=tmp_path).fit(curve)
    assert (tmp_path / NAME).read_bytes() == before


def test_other_settings_of_a_callback_are_refused_by_name(curve, tmp_path):
    def fit(step_size):
        callbacks = [LRScheduler("StepLR", step_size=step_size)]
        AutoencoderTransformer(max_iter=2, random_state=0, checkpoint=tmp_path, callbacks=callbacks).fit(curve)

    fit(2)
    fit(2)
    with pytest.raises(ValueError, match=r"callbacks=.*step_size=3.*\(there .*step_size=2"):
        fit(3)


def test_an_edited_own_module_is_refused(curve, tmp_path):
    """Its name is that of the fit in the folder, and so are the shapes of its weights."""

    def fit(activation):
        def module(n_in, n_out):
            return nn.Sequential(nn.Linear(n_in, 8), activation, nn.Linear(8, n_out))

        AutoencoderTransformer(encoder=module, max_iter=2, random_state=0, checkpoint=tmp_path).fit(curve)

    fit(nn.ReLU())
    fit(nn.ReLU())
    with pytest.raises(ValueError, match=r"the net has other layers.*Use that net's encoder and decoder"):
        fit(nn.Tanh())


def test_the_folder_stays_where_a_callback_changes_the_current_one(curve, tmp_path, monkeypatch):
    class Moving(Callback):
        def on_train_begin(self, net, **kwargs):
            os.chdir(tmp_path)

    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    AutoencoderTransformer(max_iter=1, random_state=0, checkpoint="kept", callbacks=[Moving()]).fit(curve)
    assert epochs_kept(tmp_path / "here" / "kept") == (1, "budget")


def test_other_data_and_another_estimator_are_refused_by_name(curve, tmp_path):
    AutoencoderTransformer(max_iter=3, random_state=0, checkpoint=tmp_path).fit(curve)
    model = AutoencoderTransformer(max_iter=3, random_state=0, checkpoint=tmp_path)
    for other in (curve[:200], curve.astype(np.float32), np.where(np.arange(300)[:, None] == 299, 0, curve)):
        with pytest.raises(ValueError, match=r"holds another fit, which differs in X='float\d\d \d+x5 #\w+' \(there"):
            model.fit(other)
    with pytest.raises(ValueError, match=r"differs in estimator='VAEGenerator' \(there 'AutoencoderTransformer'\), "):
        VAEGenerator(max_iter=3, random_state=0, checkpoint=tmp_path).fit(curve)
    # Neither how rows lie in memory nor how a parameter is written makes another fit.
    model.set_params(hidden_layer_sizes="auto", max_iter=np.int64(3), verbose=1).fit(np.asfortranarray(curve))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_other_classes_and_validation_rows_are_refused_by_name(curve, tmp_path):
    y = np.where(curve[:, 0] > 0, "up", "down")
    few = {"max_iter": 1, "random_state": 0, "hidden_layer_sizes": (4,), "start": "pca"}
    model = VAEGenerator(conditional=True, checkpoint=tmp_path / "classes", **few).fit(curve, y)
    with pytest.raises(ValueError, match=r"differs in y='float\d+ 300x2 #\w+' \(there 'float\d+ 300x2 #\w+'\)\. "):
        model.fit(curve, y[::-1])
    X = csr_matrix(np.random.RandomState(0).poisson(0.5, size=(200, 6)))
    model = VAEGenerator(likelihood="poisson", checkpoint=str(tmp_path / "sparse"), **few).fit(X, X_val=X[:30])
    with pytest.raises(ValueError, match=r"differs in X_val='float64 40x6 #\w+' \(there 'float64 30x6 #\w+'\)"):
        model.fit(X, X_val=X[:40])


def test_a_truncated_estimator_and_passes_leave_the_folder_alone(curve, tmp_path):
    model = AutoencoderTransformer(3, ordered=True, max_iter=5, random_state=0, checkpoint=tmp_path).fit(curve)
    assert model.truncate(2).checkpoint is None
    before = (tmp_path / NAME).read_bytes()
    model.partial_fit(curve)
    assert (tmp_path / NAME).read_bytes() == before
    AutoencoderTransformer(max_iter=0, checkpoint=tmp_path / "new").partial_fit(curve)
    assert not (tmp_path / "new").exists()


def test_a_folder_that_cannot_be_written_is_an_error_before_the_start(curve, tmp_path, monkeypatch):
    monkeypatch.setattr(Fit, "start", lambda *args: pytest.fail("it began"))
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OSError, match="is no folder that a fit can keep its state in"):
            AutoencoderTransformer(checkpoint=folder).fit(curve)
    monkeypatch.setattr(checkpoint.os, "access", lambda path, mode: False)  # the superuser may write anywhere
    with pytest.raises(OSError, match="it is read-only"):
        AutoencoderTransformer(checkpoint=tmp_path).fit(curve)
    with pytest.raises(TypeError, match="checkpoint=3 must be None or a folder"):
        AutoencoderTransformer(checkpoint=3).fit(curve)
    for nowhere in ("", "a\0b"):
        with pytest.raises(ValueError, match=r"checkpoint='.*' names no folder\. Pass '\.' for the current folder"):
            AutoencoderTransformer(checkpoint=nowhere).fit(curve)


class Poison(Callback):
    """Breaks a weight at the beginning of these epochs."""

    epochs = ()

    def on_epoch_begin(self, net, **kwargs):
        if len(net.history) in self.epochs:
            with torch.no_grad():
                net.module_.encoder.path.weight.fill_(float("nan"))


@pytest.mark.parametrize(("early_stopping", "kept"), [(True, [0, 3]), (False, [0, 1, 3, 5])])
def test_a_fit_that_diverges_each_time_ends_with_the_best_weights(early_stopping, kept, curve, monkeypatch):
    parameters = {"max_iter": 20, "random_state": 0, "early_stopping": early_stopping, "callbacks": [Poison()]}
    monkeypatch.setattr(Poison, "epochs", (3, 5, 7, 8))
    with pytest.warns(ConvergenceWarning, match="after 8 epochs, even after 3 reductions of the step size") as caught:
        model = AutoencoderTransformer(**parameters).fit(curve)
    assert len(caught) == 1
    assert model.net_.outcome_ == "diverged"
    finite = np.array(model.validation_loss_curve_ if early_stopping else model.loss_curve_)[kept]
    assert model.best_loss_ == pytest.approx(finite.min(), rel=0.01)  # of the projection chosen at the end
    assert not any(row["train_loss_best"] for row in model.net_.history if not np.isfinite(row["train_loss"]))


@pytest.mark.filterwarnings("ignore:No epoch had:sklearn.exceptions.ConvergenceWarning")
def test_a_validation_set_that_pca_reconstructs_exactly_is_no_divergence(curve):
    """The loss of such a start is rounding, and all other losses are far above it."""
    model = AutoencoderTransformer(1, max_iter=5, random_state=0).fit(curve, X_val=np.tile(curve.mean(0), (9, 1)))
    assert model.linear_loss_ < 1e-20
    assert (model.net_.outcome_, model.net_.returns_) == ("budget", 0)


@pytest.mark.usefixtures("default_networks")
def test_a_rate_far_too_high_for_counts_is_no_end(curve):
    """Rates are exponentials, which overflow; a fit of the default rate ends at 0.4 of the linear start's loss."""
    counts = np.random.RandomState(0).poisson(np.exp(curve))
    model = AutoencoderTransformer(loss="poisson", learning_rate_init=0.3, max_iter=30, random_state=0).fit(counts)
    assert model.net_.returns_ > 0
    assert not max(model.loss_curve_) < 1e8 * model.linear_loss_
    assert model.best_loss_ < 0.4 * model.linear_loss_
