"""The training of a net: its loop, its events and what it leaves."""

import itertools
import math
import threading

import numpy as np
import pytest
import torch
from skorch import NeuralNet
from skorch.callbacks import (
    Callback,
    Checkpoint,
    EarlyStopping,
    EpochScoring,
    Freezer,
    LRScheduler,
    PrintLog,
    ProgressBar,
)
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from training_cases import (
    OPTIONS,
    Counting,
    Error,
    Output,
    Poison,
    Rates,
    Sampling,
    Scaled,
    Toy,
    assert_same_training,
    assert_same_weights,
    built,
    parts,
    samples,
    trained,
    weights,
)

from skae.training.callbacks import BestWeights, cloned
from skae.training.limits import TimeLimit
from skae.training.net import Net


def test_best_weights_keep_the_lowest_loss_and_count_patience():
    module = nn.Linear(1, 1)
    best = BestWeights(patience=2, tol=0.1)
    best.begin(1.0, "start")
    best.offer(1.5, module)
    assert best.weights == "start"
    best.wait()
    best.offer(0.95, module)  # better, but by less than tol
    assert best.loss == 0.95
    assert best.weights != "start"
    assert not best.over
    best.wait()
    assert best.over
    best = BestWeights(patience=2, tol=0.1)
    best.begin(1.0, "start")
    best.offer(1.5, module)
    best.offer(0.5, module)
    assert not best.over


def test_best_weights_have_no_much_larger_error_than_the_start():
    module = nn.Linear(1, 1)
    best = BestWeights(patience=2, tol=0.1)
    best.begin(1.0, "start", error=2.0)
    best.offer(0.5, module, error=2.02)
    assert (best.loss, best.weights) == (1.0, "start")
    best.offer(0.7, module, error=2.005)
    assert best.loss == 0.7
    assert best.weights != "start"


class Drifting(Error):
    """A criterion that falls while its reconstruction error rises."""

    def reconstruction_error(self, output, target):
        return -self(output, target)


def test_training_keeps_the_start_if_all_epochs_have_a_larger_error(curve, monkeypatch):
    monkeypatch.setattr("training_cases.Error", Drifting)
    net = trained(curve, Toy(), epochs=3, lr=0.03)
    assert min(net.history[:, "valid_loss"]) < net.best.start_loss == net.best.loss


@pytest.mark.parametrize("module", [Toy, Sampling])
def test_training_ends_with_the_weights_of_the_lowest_validation_loss(module, curve):
    net = trained(curve, module(), epochs=8, lr=0.03)
    losses = net.history[:, "valid_loss"]
    assert net.outcome_ == "budget"
    assert net.best.loss == min(losses) < net.best.start_loss
    whole = built(net.module_, averaged=False)
    whole.train(*parts(curve), 0, again := BestWeights(1, 0.0))
    assert again.start_loss == pytest.approx(min(losses), rel=1e-5)
    assert next(net.module_.parameters()).dtype == torch.float64
    assert not net.module_.training


def test_without_a_validation_set_the_last_weights_stay(curve):
    seen = []

    class Look(Callback):
        def on_train_end(self, net, **kwargs):
            seen.append(weights(net))

    net = trained(curve, validates=False, averaged=False, lr=0.1, callbacks=[Look()])
    assert "valid_loss" not in net.history[-1]
    for name, part in weights(net).items():
        np.testing.assert_array_equal(part, seen[0][name])


@pytest.mark.parametrize(("epochs", "share"), [(3, 1), (9, 6 / 9), (20, 0.3), (24, 0.3)])
def test_a_running_average_of_the_weights_is_validated(curve, epochs, share):
    """By hand: the average moves 0.3 of the way to the weights that each epoch ends with; further if there are few."""

    class Weights(Callback):
        def on_train_begin(self, net, **kwargs):
            self.seen = []

        def note(self, net, **kwargs):
            self.seen.append([p.detach().double().clone() for p in net.module_.parameters()])

        on_epoch_begin = on_train_end = note  # an epoch's end shows the average

    net = trained(curve, epochs=epochs, callbacks=[Weights()])
    expected = [p.detach() for p in Toy().parameters()]
    seen = dict(net.callbacks_)["Weights"].seen
    assert len(seen) == epochs + 1
    for newest in seen[1 : int(np.argmin(net.history[:, "valid_loss"])) + 2]:
        expected = [(1 - share) * mean + share * new for mean, new in zip(expected, newest, strict=True)]
    for mean, p in zip(expected, net.module_.parameters(), strict=True):
        torch.testing.assert_close(p.detach(), mean, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("callbacks", "epochs", "n_validated"),
    [([], 20, 8), ([], 17, 17), ([], 18, 7), ([TimeLimit(math.inf)], 20, 8), ([Callback()], 20, 20)],
    ids=["none", "few epochs", "enough", "one that reads nothing", "one that may read losses"],
)
def test_the_average_is_validated_every_third_epoch(curve, callbacks, epochs, n_validated):
    net = trained(curve, epochs=epochs, callbacks=callbacks)
    validated = ["valid_batch_count" in row for row in net.history]
    assert len(validated) == epochs
    assert sum(validated) == n_validated
    assert validated[0]
    assert validated[-1]
    losses = net.history[:, "valid_loss"]
    repeats = [loss == last for last, loss in itertools.pairwise(losses)]
    assert repeats == [not now for now in validated[1:]]
    assert net.best.loss == min(losses)


@pytest.mark.parametrize("patience", [1, 2, 3, 4])
def test_patience_ends_training_after_an_epoch_that_is_validated(patience, curve):
    net = trained(curve, epochs=200, patience=patience)
    assert net.outcome_ == "patience"
    validated = [row["valid_loss"] for row in net.history if "valid_batch_count" in row]
    assert "valid_batch_count" in net.history[-1]
    assert len(net.history) - 1 - net.history[:, "valid_loss"].index(net.best.loss) == patience
    assert len(validated) > 2


@pytest.mark.parametrize("epoch", [4, 5])
def test_a_loss_that_is_repeated_is_no_second_divergence(epoch, curve):
    quiet = Poison(epoch)
    quiet.reads_training = False
    net = trained(curve, epochs=20, callbacks=[quiet])
    assert (net.outcome_, net.returns_, len(net.history)) == ("budget", 1, 20)


def test_callbacks_do_not_change_which_weights_are_kept(curve):
    """They get the loss of each epoch; the choice is among the same epochs."""
    plain, watched = (trained(curve, epochs=20, lr=0.03, callbacks=callbacks) for callbacks in ([], [Callback()]))
    assert plain.best.loss == watched.best.loss
    assert_same_weights(watched, plain)


def test_layers_may_be_frozen_on_the_way(curve):
    net = trained(curve, callbacks=[Freezer("encoder.weight")])
    start, end = Toy().state_dict(), net.module_.state_dict()
    torch.testing.assert_close(end["encoder.weight"], start["encoder.weight"], rtol=1e-6, atol=0)
    assert not torch.allclose(end["encoder.bias"], start["encoder.bias"])


def test_the_net_is_skorchs_and_its_history_in_reach(curve):
    net = trained(curve, epochs=4)
    assert isinstance(net, NeuralNet)
    assert len(net.history) == 4
    assert set(net.history[-1]) == {
        "batches", "epoch", "train_batch_count", "train_loss", "train_loss_best", "valid_batch_count", "valid_loss",
        "valid_loss_best", "dur",
    }  # fmt: skip
    assert (net.history[-1, "train_batch_count"], net.history[-1, "valid_batch_count"]) == (9, 1)
    assert net.history[:, "train_loss_best"] == [
        loss <= min(net.history[: i + 1, "train_loss"]) for i, loss in enumerate(net.history[:, "train_loss"])
    ]
    assert min(net.history[:, "dur"]) > 0


@pytest.mark.parametrize("alpha", [0.0, 0.1])
def test_a_pass_equals_a_plain_loop(alpha, curve):
    """Same layers, same order of samples, same optimiser: the same weights."""
    net = built(alpha=alpha, batch_size=50)
    net.train_once(samples(curve))
    plain = Toy().float()
    groups = [{"params": list(plain.decoder.parameters())[::2], "weight_decay": alpha}]
    groups.append({"params": [p for p in plain.parameters() if not any(p is q for q in groups[0]["params"])]})
    optimizer = torch.optim.Adam(groups, lr=3e-3, fused=True)
    rows = torch.from_numpy(curve).float()
    for batch in torch.randperm(300, generator=torch.Generator().manual_seed(0)).tensor_split(6):
        optimizer.zero_grad()
        (plain(rows[batch]).eta - rows[batch]).square().mean().backward()
        optimizer.step()
    for key, weight in plain.named_parameters():
        torch.testing.assert_close(net.module_.state_dict()[key].float(), weight, rtol=0, atol=1e-7)


def test_passes_go_on_with_the_optimiser_and_after_a_state_was_stored(curve):
    net = built()
    net.train_once(samples(curve[:200]))
    twin = built().set_state(net.get_state())
    for one in (net, twin):
        one.iterator_train__generator.manual_seed(5)
        one.batch_size = 40
        one.lr = 1e-3
        one.train_once(samples(curve[200:]))
        assert one.optimizer_.param_groups[0]["lr"] == 1e-3
    assert_same_weights(twin, net)
    assert net.history[-1, "train_batch_count"] == 3
    assert len(twin.history) == 2


def test_gradients_are_of_the_loss_over_its_value_at_the_start(curve):
    scaled, plain = (trained(1e-4 * curve, relative=relative, epochs=3) for relative in (True, False))
    assert scaled.gradient_scale_ == pytest.approx(1 / scaled.best.start_loss)
    assert plain.gradient_scale_ == 1
    assert scaled.best.start_loss == plain.best.start_loss


def test_batches_share_memory_only_if_no_callback_may_keep_them(curve):
    class Keep(Callback):
        def on_train_begin(self, net, **kwargs):
            self.batches = []

        def on_batch_begin(self, net, batch=None, training=None, **kwargs):
            if training:
                self.batches.append(batch[0])

    net = trained(curve, epochs=1, callbacks=[Keep()])
    batches = dict(net.callbacks_)["Keep"].batches
    assert len({batch.data_ptr() for batch in batches}) == len(batches)
    pointers = {x.data_ptr() for x, _ in built().get_iterator(samples(curve), training=True)}
    assert len(pointers) == 1


class Recorder(Callback):
    """Writes down the events it hears."""

    def __init__(self):
        self.events = []

    def on_train_begin(self, net, X=None, y=None, **kwargs):
        self.events.append("train begin")

    def on_train_end(self, net, X=None, y=None, **kwargs):
        self.events.append("train end")

    def on_epoch_begin(self, net, dataset_train=None, dataset_valid=None, **kwargs):
        assert len(dataset_train) == 36
        assert len(dataset_valid) == 4
        self.events.append("epoch begin")

    def on_epoch_end(self, net, dataset_train=None, dataset_valid=None, **kwargs):
        assert net.history[-1, "valid_loss"] > 0
        self.events.append("epoch end")

    def on_batch_begin(self, net, batch=None, training=None, **kwargs):
        self.events.append(f"batch begin {training}")

    def on_grad_computed(self, net, named_parameters, batch=None, training=None, **kwargs):
        names = [name for name, parameter in named_parameters if parameter.grad is not None]
        assert "encoder.weight" in names
        self.events.append("grad")

    def on_batch_end(self, net, batch=None, training=None, loss=None, y_pred=None, **kwargs):
        assert y_pred[1].shape == batch[0].shape
        assert torch.isfinite(loss)
        self.events.append(f"batch end {training}")


def test_callbacks_hear_skorchs_events_in_order(curve):
    recorder, data = Recorder(), samples(curve)
    net = built(batch_size=18, callbacks=[recorder])
    net.train(data.subset(torch.arange(36)), data.subset(torch.arange(36, 40)), 1, BestWeights(1, 0.0))
    batch = ["batch begin True", "grad", "batch end True"]
    assert recorder.events == [
        "train begin", "epoch begin", *batch, *batch, "batch begin False", "batch end False", "epoch end", "train end",
    ]  # fmt: skip


def test_callbacks_change_no_result(curve):
    stopping = EarlyStopping(monitor="valid_loss", patience=100)
    found, expected = trained(curve, callbacks=[("stop", stopping)]), trained(curve)
    assert_same_weights(found, expected)


def test_skorchs_own_early_stopping_ends_training(curve):
    stopping = EarlyStopping(monitor="train_loss", patience=2, threshold=10.0)
    net = trained(curve, epochs=50, callbacks=[stopping])
    assert len(net.history) < 10
    assert net.outcome_ == "callback"


def test_training_ends_when_nothing_better_came_for_so_long(curve):
    net = trained(curve, epochs=50, patience=4, tol=10.0)
    assert net.outcome_ == "patience"
    assert len(net.history) == 4


def test_the_learning_rate_goes_through_one_cycle(curve):
    rates = Rates()
    trained(curve, epochs=10, validates=False, callbacks=[rates])
    assert max(rates.steps) == pytest.approx(3e-3, rel=0.1)
    assert rates.epochs[0] > 2e-3 > 5e-4 > rates.epochs[-2]
    assert rates.epochs[-1] < 1e-6


def test_a_scheduler_of_skorch_replaces_the_one_cycle(curve):
    rates = Rates()
    trained(curve, epochs=3, callbacks=[LRScheduler("StepLR", step_size=1, gamma=0.1), rates])
    np.testing.assert_allclose(rates.epochs, [3e-4, 3e-5, 3e-6])


def test_a_scheduler_goes_on_in_a_pass(curve):
    net = trained(curve, epochs=2, callbacks=[LRScheduler("StepLR", step_size=1)])
    net.train_once(samples(curve))
    assert len(net.history) == 3


def test_skorchs_checkpoint_finds_its_monitor(curve, tmp_path):
    trained(curve, epochs=3, callbacks=[Checkpoint(dirname=tmp_path, monitor="valid_loss_best")])
    assert (tmp_path / "params.pt").exists()


@pytest.mark.parametrize("module", [Toy, Sampling])
def test_skorchs_predict_returns_reconstructions(module, curve):
    net = trained(curve, module(), epochs=1)
    z = net.module_.encoder(torch.from_numpy(curve))
    if module is Sampling:  # the mean of the two draws
        z = torch.stack([z + 0.1, z - 0.1])
    expected = net.module_.decoder(z).reshape(-1, *curve.shape).mean(0).numpy(force=True)
    np.testing.assert_allclose(net.predict(curve), expected, rtol=1e-4, atol=1e-4)


def test_skorchs_epoch_scoring_compares_reconstructions_with_samples(curve):
    scoring = EpochScoring("neg_mean_squared_error", lower_is_better=False)
    net = trained(curve, epochs=4, callbacks=[scoring])
    np.testing.assert_allclose(
        net.history[:, "neg_mean_squared_error"], -np.array(net.history[:, "valid_loss"]), rtol=1e-4
    )


@pytest.mark.parametrize(
    "callback",
    [EarlyStopping(), Checkpoint(fn_prefix="unwritten"), LRScheduler("ReduceLROnPlateau", monitor="valid_loss")],
    ids=lambda callback: type(callback).__name__,
)
def test_a_monitor_of_a_validation_loss_that_does_not_exist_is_named(callback, curve):
    with pytest.raises(
        ValueError, match=r"'?valid_loss.* not found in history.*early_stopping=True, or .*'train_loss'"
    ):
        trained(curve, validates=False, averaged=False, callbacks=[callback])


def test_other_errors_of_callbacks_are_not_changed(curve):
    class Fails(Callback):
        def on_epoch_end(self, net, **kwargs):
            raise KeyError("valid_accuracy")

    with pytest.raises(KeyError, match="valid_accuracy"):
        trained(curve, callbacks=[Fails()])


@pytest.mark.parametrize("progress", [None, "Toy"])
def test_skorchs_print_log_prints_if_the_net_shows_progress(progress, curve, capsys):
    trained(curve, epochs=3, progress=progress, callbacks=[PrintLog()])
    printed = capsys.readouterr()
    assert printed.out.count("\n") == (0 if progress is None else 5)
    assert ("Toy:" in printed.err) == (progress is not None)


def test_a_progress_bar_of_skorch_is_the_only_one(curve, capsys):
    trained(curve, epochs=2, progress="Toy", callbacks=[ProgressBar()])
    printed = capsys.readouterr().err
    assert "it/s" in printed
    assert "Toy:" not in printed


def test_callbacks_that_cannot_be_copied_are_used_as_they_are():
    class Writer(Callback):
        def __init__(self, lock):
            self.lock = lock

    writer, stopping = Writer(threading.Lock()), EarlyStopping()
    kept, (name, named), copied = map(cloned, [writer, ("writer", writer), ("stop", stopping)])
    assert kept is named is writer
    assert name == "writer"
    assert copied[1] is not stopping


@pytest.mark.parametrize("use_caching", [True, False])
def test_skorchs_epoch_scoring_can_predict(use_caching, curve):
    scoring = EpochScoring(lambda net, X, y=None: float(net.predict(X).mean()), name="mean", use_caching=use_caching)
    net = trained(curve, epochs=2, callbacks=[scoring])
    assert np.isfinite(net.history[:, "mean"]).all()


def test_skorchs_epoch_scoring_can_ask_the_net(curve):
    def error(net, X, y=None):
        z, eta = net.forward(X)
        assert z.shape == (len(X), 1)
        return float((eta - X[:][0]).square().mean())

    net = trained(curve, epochs=2, callbacks=[EpochScoring(error, name="error", use_caching=False)])
    np.testing.assert_allclose(net.history[:, "error"], net.history[:, "valid_loss"], rtol=1e-4)


class Levels(Toy):
    """An output for each of two levels."""

    def forward(self, x):
        z = self.encoder(x)
        return Output(z, self.decoder(z)), Output(z, self.decoder(z / 2), torch.ones(2))


class SumOfErrors(nn.Module):
    def forward(self, outputs, target):
        return sum((output.eta - target).square().mean() for output in outputs)


def test_callbacks_see_the_tensors_of_a_nested_output_alone(curve):
    seen = []

    class Look(Callback):
        def on_batch_end(self, net, y_pred=None, **kwargs):
            seen.append([tuple(part.shape) for part in y_pred])

    net = Net(
        Levels(), SumOfErrors(), **OPTIONS | {"averaged": False}, lr=1e-3, batch_size=300, callbacks=[Look()],
        iterator_train__generator=torch.Generator(),
    ).initialize()  # fmt: skip
    net.train(samples(curve), None, 1, BestWeights(1, 0.0))
    assert seen == [[(300, 1), (300, 5), (300, 1), (300, 5), (2,)]]
    assert [part.shape for part in net.forward(curve)] == [(300, 1), (300, 5), (300, 1), (300, 5), (2,)]


class Waits(TorchDispatchMode):
    """Counts numbers that torch hands to Python, for which it waits until a device has computed them."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function is torch.ops.aten._local_scalar_dense.default
        return function(*args, **kwargs or {})


@pytest.mark.parametrize("module", [Toy, Sampling])
@pytest.mark.parametrize("parameters", [{}, {"clipped": True, "alpha": 0.1, "relative": True}])
def test_no_step_waits_for_a_device(module, parameters, curve):
    counts = []
    for batch_size in (15, 30):
        with Waits() as waits:
            trained(curve, module(), batch_size=batch_size, **parameters)
        counts.append(waits.count)
    assert counts[0] == counts[1] > 0


def test_what_is_exact_stays_in_float64(curve):
    dtypes = []

    class Look(Callback):
        def on_batch_begin(self, net, **kwargs):
            dtypes.append((net.module_.encoder.weight.dtype, net.module_.scaler.mean.dtype))

    net = trained(curve, Scaled(), callbacks=[Look()])
    assert set(dtypes) == {(torch.float32, torch.float64)}
    expected = torch.full((3,), 1 / 3, dtype=torch.float64)
    for module in (
        net.module_,
        net.inference_module(torch.float32),
        built(Scaled()).set_state(net.get_state()).module_,
    ):
        assert torch.equal(module.scaler.mean, expected)


def test_the_inference_module_has_the_weights_of_the_last_training(curve):
    net = trained(curve)
    before = net.inference_module(torch.float32)
    assert before is net.inference_module(torch.float32)
    assert before.encoder.weight.dtype == torch.float32
    assert torch.equal(before.encoder.weight, net.module_.encoder.weight.float())
    net.train_once(samples(curve))
    after = net.inference_module(torch.float32)
    assert torch.equal(after.encoder.weight, net.module_.encoder.weight.float())
    assert not torch.equal(after.encoder.weight, before.encoder.weight)


def test_the_state_is_numpy_and_plain_python(curve):
    def leaves(value):
        if isinstance(value, dict):
            return {leaf for item in value.items() for part in item for leaf in leaves(part)}
        if isinstance(value, list | tuple):
            return {leaf for item in value for leaf in leaves(item)}
        return {type(value)}

    net = trained(curve)
    net.train_once(samples(curve))
    kinds = leaves(net.get_state())
    assert kinds <= {np.ndarray, str, int, float, bool, type(None)}, kinds


def test_a_net_without_training_builds_no_optimiser(curve):
    net = trained(curve, epochs=0)
    assert net.optimizer_ is None
    assert net.outcome_ == "untrained"
    assert net.best.loss == net.best.start_loss
    assert_same_weights(net, built())


@pytest.mark.parametrize("kind", [ValueError, SystemExit])
def test_an_error_leaves_the_weights_as_they_were(kind, curve):
    class Fail(Callback):
        def on_epoch_end(self, net, **kwargs):
            raise kind

    net = built(callbacks=[Fail()])
    with pytest.raises(kind):
        net.train(*parts(curve), 3, BestWeights(5, 0.0))
    assert_same_weights(net, built())


def test_an_interrupt_in_the_first_epoch_leaves_a_net_with_a_loss(curve):
    class Interrupt(Callback):
        def on_batch_end(self, net, **kwargs):
            raise KeyboardInterrupt

    net = trained(curve, validates=False, averaged=False, callbacks=[Interrupt()])
    assert net.outcome_ == "callback"
    assert math.isfinite(net.best.loss)


def test_a_pass_with_nothing_to_train_changes_nothing(curve):
    net = built(Toy().requires_grad_(False))
    net.train_once(samples(curve))
    assert_same_weights(net, built())
    assert not net.history


def test_a_transform_inside_training_leaves_no_trace(curve):
    class Peek(Callback):
        def on_train_end(self, net, **kwargs):
            net.inference_module(torch.float32)

    nets = built(callbacks=[Peek()]), built()
    for net in nets:
        net.train_once(samples(curve))
    peeking, plain = (net.inference_module(torch.float32).encoder.weight for net in nets)
    assert torch.equal(peeking, plain)


def test_networks_that_draw_from_the_global_generators_give_the_same_once_these_are_seeded(curve):
    found, again = (trained(curve, Counting(), uses_globals=True) for _ in range(2))
    assert_same_training(found, again)
    assert found.module_.decoder[0].num_batches_tracked == 5 * 9


# Divergence.


@pytest.mark.parametrize("validates", [True, False])
@pytest.mark.parametrize("module", [Toy, Sampling])
def test_a_loss_that_turns_nan_once_costs_an_epoch_and_no_training(module, validates, curve):
    rates, expected = Rates(), Rates()
    plain = trained(curve, module(), epochs=12, validates=validates, lr=0.03, callbacks=[expected])
    net = trained(curve, module(), epochs=12, validates=validates, lr=0.03, callbacks=[Poison(4), rates])
    assert (net.outcome_, net.returns_, len(net.history)) == ("budget", 1, 12)
    losses = net.history[:, "train_loss"]
    assert np.isnan(losses[3])
    assert np.isfinite(np.delete(losses, 3)).all()
    assert losses[:3] == plain.history[:3, "train_loss"]
    n = len(rates.steps) // 12
    np.testing.assert_allclose(rates.steps[: 4 * n], expected.steps[: 4 * n])
    np.testing.assert_allclose(rates.steps[4 * n :], np.array(expected.steps[4 * n :]) / 10)
    judged = net.history[:, "valid_loss"] if validates else losses
    assert min(judged[4:]) < min(judged[:3])  # it went on from there
    assert all(np.isfinite(part).all() for part in weights(net).values())


@pytest.mark.parametrize("validates", [True, False])
def test_training_that_diverges_each_time_ends_with_the_best_weights(validates, curve):
    net = trained(curve, epochs=12, validates=validates, callbacks=[Poison(3, 5, 7, 8)])
    assert (net.outcome_, net.returns_, len(net.history)) == ("diverged", 3, 8)
    finite = np.array(net.history[:, "valid_loss" if validates else "train_loss"])[[0, 1, 3, 5]]
    assert net.best.loss == finite.min()
    assert not any(row["train_loss_best"] for row in net.history if not np.isfinite(row["train_loss"]))
    for name, part in net.best.weights.items():
        np.testing.assert_array_equal(weights(net)[name], part.double())


def test_training_that_diverges_at_once_is_its_start_with_its_loss(curve):
    net = trained(curve, epochs=2, validates=False, averaged=False, lr=1e30)
    assert net.outcome_ == "diverged"
    assert_same_weights(net, built())
    start = trained(curve, epochs=0, validates=False)
    assert net.best.loss == pytest.approx(start.best.loss, rel=1e-5)


@pytest.mark.parametrize("clipped", [False, True])
def test_a_pass_that_diverges_changes_nothing_and_the_next_begins_anew(clipped, curve):
    net = built(lr=1e30, clipped=clipped)
    net.train_once(samples(curve))
    assert net.outcome_ == "diverged"
    assert net.optimizer_ is None
    assert_same_weights(net, built())
    net.lr = 1e-3
    net.train_once(samples(curve))
    assert all(np.isfinite(part).all() for part in weights(net).values())


def test_a_pass_after_training_clips_by_its_own_gradients(curve):
    net = trained(curve, clipped=True, batch_size=300)
    net.train_once(samples(curve))
    gradients = [p.grad.norm() for p in net.module_.parameters() if p.grad is not None]
    assert net.optimizer_.mean_norm.item() == pytest.approx(torch.stack(gradients).norm().item())
