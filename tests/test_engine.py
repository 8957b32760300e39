import pickle
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from skorch import NeuralNet
from skorch.callbacks import Callback, Checkpoint, EarlyStopping, EpochScoring, Freezer, LRScheduler
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import Subset, TensorDataset

from skae import AutoencoderTransformer, VAEGenerator, reconstruction_error
from skae._engine import Adam, Batches, BestWeights, Net

IMAGES = {"feature_shape": (1, 8, 8)}


def digits():
    return load_digits().data


def dataset(n, separate=False):
    x = torch.arange(n, dtype=torch.float32)[:, None]
    return TensorDataset(x, x + 0.5 if separate else x)


@pytest.mark.parametrize("n", [1, 7, 32, 33, 100])
@pytest.mark.parametrize("separate", [False, True])
def test_an_epoch_sees_each_row_once_in_even_batches(n, separate, seed):
    batches = Batches(dataset(n, separate), 32, torch.Generator().manual_seed(seed))
    drawn = list(batches)
    assert len(drawn) == len(batches) == -(-n // 32)
    x = torch.cat([x for x, _ in drawn])[:, 0]
    assert sorted(x.tolist()) == list(range(n))
    sizes = {len(x) for x, _ in drawn}
    assert max(sizes) - min(sizes) <= 1
    assert max(sizes) <= 32
    assert all(torch.equal(target, x + 0.5 * separate) for x, target in drawn)


def test_each_epoch_has_an_order_of_its_own_and_one_seed_one_order():
    def orders():
        batches = Batches(dataset(50), 8, torch.Generator().manual_seed(0))
        return [torch.cat([x for x, _ in batches]) for _ in range(2)]

    (first, second), (again, _) = orders(), orders()
    assert torch.equal(first, again)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("separate", [False, True])
def test_a_subset_gives_its_own_rows_only(shared, separate, seed):
    rows = torch.arange(3, 40, 2)
    shuffled = Batches(Subset(dataset(50, separate), rows), 7, torch.Generator().manual_seed(seed), shared=shared)
    drawn = torch.cat([torch.hstack(batch) for batch in shuffled])
    assert sorted(drawn[:, 0].tolist()) == rows.tolist()
    assert torch.equal(drawn[:, 1], drawn[:, 0] + 0.5 * separate)
    in_order = Batches(Subset(dataset(50), rows), 7, shared=shared)
    assert torch.equal(torch.cat([x.clone() for x, _ in in_order])[:, 0].long(), rows)


def test_batches_share_memory_only_if_no_callback_may_keep_them(curve):
    class Keep(Callback):
        def on_train_begin(self, net, **kwargs):
            self.batches = []

        def on_batch_begin(self, net, batch=None, training=None, **kwargs):
            if training:
                self.batches.append(batch[0])

    kept = AutoencoderTransformer(max_iter=1, callbacks=[Keep()], early_stopping=False, random_state=0).fit(curve)
    batches = dict(kept.net_.callbacks_)["Keep"].batches
    assert len({batch.data_ptr() for batch in batches}) == len(batches)
    shared = Batches(dataset(50), 8, torch.Generator().manual_seed(0), shared=True)
    assert len({x.data_ptr() for x, _ in shared}) == 1


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_adam_takes_torchs_steps(decay, seed):
    def walk(optimizer):
        torch.manual_seed(seed)
        layer = torch.nn.Linear(3, 2)
        optimizer = optimizer(layer.parameters(), lr=0.1, weight_decay=decay, fused=True)
        for _ in range(5):
            optimizer.zero_grad()
            layer(torch.ones(4, 3)).square().sum().backward()
            optimizer.step()
        return layer.weight, optimizer.state_dict()

    (ours, state), (theirs, _) = walk(Adam), walk(torch.optim.Adam)
    assert torch.equal(ours, theirs)
    again = Adam(torch.nn.Linear(3, 2).parameters(), fused=True)
    again.load_state_dict(state)
    assert again.param_groups[0]["lr"] == 0.1


def test_a_fit_without_validation_copies_no_row(curve):
    """What is trained on is the caller's own array where the net takes rows as they are."""
    seen = []

    class Look(Callback):
        def on_train_begin(self, net, X=None, **kwargs):
            seen.append(X.tensors[0].data_ptr())

    X = np.ascontiguousarray(curve, dtype=np.float32)
    before = X.copy()
    model = AutoencoderTransformer(
        encoder=torch.nn.Linear, decoder=torch.nn.Linear, start="random", early_stopping=False, max_iter=2
    )
    model.set_params(callbacks=[Look()]).fit(X)
    assert seen == [X.ctypes.data]
    np.testing.assert_array_equal(X, before)


def test_noise_changes_inputs_only_and_has_the_given_size():
    rows = torch.zeros(20000, 2)
    batches = Batches(TensorDataset(rows, rows), 5000, torch.Generator().manual_seed(0), torch.tensor([0.5, 2.0]))
    x, target = (torch.cat(parts) for parts in zip(*batches, strict=True))
    np.testing.assert_allclose(x.std(dim=0), [0.5, 2.0], rtol=0.03)
    assert not target.any()


def test_best_weights_keep_the_lowest_loss_and_count_patience():
    module = torch.nn.Linear(1, 1)
    best = BestWeights(patience=2, tol=0.1)
    best.begin(1.0, "start")
    best.offer(1.5, module)
    assert best.weights == "start"
    best.offer(0.95, module)  # better, but by less than tol
    assert best.loss == 0.95
    assert best.weights != "start"
    assert best.over
    best = BestWeights(patience=2, tol=0.1)
    best.begin(1.0, "start")
    best.offer(1.5, module)
    best.offer(0.5, module)
    assert not best.over


@pytest.mark.parametrize(("epochs", "share"), [(3, 1), (9, 6 / 9), (20, 0.3), (24, 0.3)])
def test_held_out_rows_judge_a_running_average_of_the_weights(curve, epochs, share):
    """By hand: the average moves 0.3 of the way to the weights that each epoch ends with; further if there are few."""

    class Weights(Callback):
        def on_train_begin(self, net, **kwargs):
            self.seen = []

        def note(self, net, **kwargs):
            self.seen.append([p.detach().double().clone() for p in net.module_.parameters()])

        on_epoch_begin = on_train_end = note  # an epoch's end shows the average

    start = AutoencoderTransformer(1, max_iter=0, random_state=0).fit(curve)
    model = AutoencoderTransformer(
        1, max_iter=epochs, n_iter_no_change=epochs, learning_rate_init=1e-3, random_state=0, callbacks=[Weights()]
    ).fit(curve)
    expected = [p.detach() for p in start.net_.module_.parameters()]
    seen = dict(model.net_.callbacks_)["Weights"].seen
    assert len(seen) == epochs + 1
    for weights in seen[1 : int(np.argmin(model.validation_loss_curve_)) + 2]:
        expected = [(1 - share) * mean + share * new for mean, new in zip(expected, weights, strict=True)]
    for mean, p in zip(expected, model.net_.module_.parameters(), strict=True):
        torch.testing.assert_close(p.detach(), mean, atol=1e-6, rtol=1e-5)


def test_layers_may_be_frozen_on_the_way(curve):
    frozen = "encoder.path.weight"
    model = AutoencoderTransformer(1, max_iter=3, random_state=0, callbacks=[Freezer(frozen)]).fit(curve)
    weights = dict(model.net_.module_.named_parameters())
    assert not weights[frozen].any()
    assert weights["decoder.path.weight"].any()


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
    np.testing.assert_allclose(model.net_.history[:, "train_loss"], np.array(model.loss_curve_) / model._frame.scale**2)
    assert min(model.net_.history[:, "dur"]) > 0


def test_a_pass_equals_a_plain_loop(curve):
    """Same layers, same order of rows, same optimiser: the same weights."""

    def coder(n_in, n_out):
        return torch.nn.Linear(n_in, n_out)

    model = AutoencoderTransformer(
        2, encoder=coder, decoder=coder, start="random", batch_size=50, max_iter=0, random_state=0
    ).fit(curve)
    plain = model._build_module(5).float()
    optimizer = torch.optim.Adam(plain.parameters(), lr=3e-3, fused=True)
    generator = torch.Generator().manual_seed(model._seed)
    rows = torch.from_numpy(curve).float()
    for batch in torch.randperm(300, generator=generator).tensor_split(6):
        optimizer.zero_grad()
        (plain(rows[batch]).eta - rows[batch]).square().mean().backward()
        optimizer.step()
    fresh = AutoencoderTransformer(**model.get_params()).partial_fit(curve)
    for key, weight in plain.named_parameters():
        torch.testing.assert_close(fresh.net_.module_.state_dict()[key].float(), weight, rtol=0, atol=1e-7)


class Weighed(torch.nn.Module):
    """Two weights, whose gradients are .6 and .8 times the mean of a batch."""

    n_refinements = 0

    def __init__(self):
        super().__init__()
        self.weights = torch.nn.ParameterList([torch.zeros(1), torch.zeros(1)])

    def forward(self, x):
        return ((0.6 * self.weights[0] + 0.8 * self.weights[1]) * x,)


class Mean(torch.nn.Module):
    def forward(self, output, target):
        return output[0].mean()


@pytest.mark.parametrize(
    ("clipped", "given", "expected"),
    [
        (False, [4, -6, 100, 100, 4], [4, -6, 100, 100, 4]),
        (True, [4, -6, 100, 100, 4], [4, -6, 16.4, 18.86, 4]),
        (True, [0, 3, 100], [0, 3, 12]),
        (True, [2, np.nan, 9, 100], [2, np.nan, 9, 36]),
    ],
)
def test_gradients_are_clipped_to_four_times_the_running_mean_of_their_norm(clipped, given, expected):
    net = Net(Weighed(), Mean(), width=1, clipped=clipped, lr=0.1, batch_size=1)
    net.set_params(iterator_train__generator=torch.Generator()).initialize()
    net.module_.float()
    net._build_optimizer()
    for norm, left in zip(given, expected, strict=True):
        net.train_step((torch.full((1, 1), float(norm)), None))
        gradients = [weight.grad.item() for weight in net.module_.weights]
        assert gradients == pytest.approx([0.6 * left, 0.8 * left], nan_ok=True)
    assert (net.optimizer_.mean_norm is not None) == clipped


@pytest.mark.parametrize(
    ("parameters", "clipped"), [({}, False), (IMAGES, True), (IMAGES | {"ordered": True, "start": "pca"}, False)]
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("kind", [AutoencoderTransformer, VAEGenerator])
def test_gradients_are_clipped_for_images_alone(kind, parameters, clipped):
    model = kind(2, max_iter=1, random_state=0, **parameters).fit(digits()[:60])
    assert model.net_.clipped == clipped


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_pass_after_fit_clips_by_its_own_gradients():
    X = digits()[:100]
    model = AutoencoderTransformer(2, max_iter=3, batch_size=100, random_state=0, **IMAGES).fit(X).partial_fit(X)
    gradients = [p.grad.norm() for p in model.net_.module_.parameters() if p.grad is not None]
    assert model.net_.optimizer_.mean_norm.item() == pytest.approx(torch.stack(gradients).norm().item())


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


@pytest.mark.parametrize(("kind", "n_epochs"), [(AutoencoderTransformer, 4), (VAEGenerator, 6)])
def test_components_in_order_train_a_share_of_the_epochs(kind, n_epochs, curve):
    model = kind(2, ordered=True, max_iter=20, early_stopping=False, start="pca", random_state=0).fit(curve)
    assert model.n_iter_ == n_epochs


def test_training_does_not_import_a_compiler_without_training(curve):
    model = AutoencoderTransformer(max_iter=0).fit(curve)
    assert model.net_.optimizer_ is None


class Recorder(Callback):
    """Writes down the events it hears; a class attribute outlives the clone."""

    events: list = []

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
        assert "encoder.path.weight" in names
        self.events.append("grad")

    def on_batch_end(self, net, batch=None, training=None, loss=None, y_pred=None, **kwargs):
        assert y_pred[1].shape == batch[0].shape
        assert torch.isfinite(loss)
        self.events.append(f"batch end {training}")


def test_callbacks_hear_skorchs_events_in_order():
    Recorder.events = []
    recorder = Recorder()
    X = np.random.RandomState(0).normal(size=(40, 3))
    AutoencoderTransformer(1, max_iter=1, batch_size=18, callbacks=[recorder], random_state=0).fit(X)
    batch = ["batch begin True", "grad", "batch end True"]
    assert Recorder.events == [
        "train begin", "epoch begin", *batch, *batch, "batch begin False", "batch end False", "epoch end", "train end",
    ]  # fmt: skip


def test_callbacks_change_no_result_and_are_cloned(curve):
    stopping = EarlyStopping(monitor="valid_loss", patience=100)
    before = dict(vars(stopping))
    with_callbacks = AutoencoderTransformer(max_iter=5, callbacks=[("stop", stopping)], random_state=0).fit(curve)
    without = AutoencoderTransformer(max_iter=5, random_state=0).fit(curve)
    np.testing.assert_array_equal(with_callbacks.transform(curve), without.transform(curve))
    assert vars(stopping) == before


def test_skorchs_own_early_stopping_ends_the_fit(curve):
    model = AutoencoderTransformer(
        max_iter=50, callbacks=[EarlyStopping(monitor="train_loss", patience=2, threshold=10.0)], random_state=0
    ).fit(curve)
    assert model.n_iter_ < 10


class Rates(Callback):
    """The learning rate at each epoch's end."""

    seen: list = []

    def on_epoch_end(self, net, **kwargs):
        self.seen.append(net.optimizer_.param_groups[0]["lr"])


def test_the_learning_rate_goes_through_one_cycle(curve):
    Rates.seen = []
    AutoencoderTransformer(max_iter=10, early_stopping=False, callbacks=[Rates()], random_state=0).fit(curve)
    assert max(Rates.seen) == pytest.approx(3e-3, rel=0.1)
    assert Rates.seen[0] > 2e-3 > 5e-4 > Rates.seen[-2]
    assert Rates.seen[-1] < 1e-6


def test_a_scheduler_of_skorch_replaces_the_one_cycle(curve):
    Rates.seen = []
    callbacks = [LRScheduler("StepLR", step_size=1, gamma=0.1), Rates()]
    AutoencoderTransformer(max_iter=3, early_stopping=False, callbacks=callbacks, random_state=0).fit(curve)
    np.testing.assert_allclose(Rates.seen, [3e-4, 3e-5, 3e-6])


def test_skorchs_checkpoint_finds_its_monitor(curve, tmp_path):
    callback = Checkpoint(dirname=tmp_path, monitor="valid_loss_best")
    AutoencoderTransformer(max_iter=3, callbacks=[callback], random_state=0).fit(curve)
    assert (tmp_path / "params.pt").exists()


def test_a_transform_inside_training_leaves_no_trace(curve):
    model = AutoencoderTransformer(max_iter=2, early_stopping=False, random_state=0).partial_fit(curve)

    class Peek(Callback):
        def on_train_end(self, net, **kwargs):
            model.transform(curve)

    twin = AutoencoderTransformer(max_iter=2, early_stopping=False, random_state=0).partial_fit(curve)
    model.net_.callbacks_ = [("peek", Peek())]
    np.testing.assert_array_equal(model.partial_fit(curve).transform(curve), twin.partial_fit(curve).transform(curve))


def test_only_this_process_generator_is_seeded(monkeypatch, curve):
    """torch.manual_seed would also seed devices that nothing restores."""
    monkeypatch.setattr(torch, "manual_seed", lambda seed: pytest.fail("every device was seeded"))
    AutoencoderTransformer(max_iter=1, encoder=torch.nn.Linear, early_stopping=False, random_state=0).fit(curve)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_skorchs_predict_gives_what_the_net_makes_of_rows(curve):
    for model in (AutoencoderTransformer(2, max_iter=1, random_state=0), VAEGenerator(2, max_iter=1, random_state=0)):
        codes = model.fit(curve).net_.predict(model._frame.to_net(curve))
        np.testing.assert_allclose(codes * model._code_scale, model.transform(curve), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("estimator", [AutoencoderTransformer, VAEGenerator])
@pytest.mark.parametrize("use_caching", [True, False])
def test_skorchs_epoch_scoring_can_predict(estimator, use_caching, curve):
    asked = EpochScoring(lambda net, X, y=None: float(net.predict(X).mean()), name="mean", use_caching=use_caching)
    model = estimator(2, max_iter=2, callbacks=[asked], random_state=0).fit(curve)
    assert np.isfinite(model.net_.history[:, "mean"]).all()


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
def test_no_step_waits_for_a_device(model):
    X, counts = digits()[:320], []
    for batch_size in (32, 64):
        with Waits() as waits:
            model.set_params(batch_size=batch_size, max_iter=4, random_state=0).fit(X[:300], X_val=X[300:])
        counts.append(waits.count)
    assert counts[0] == counts[1] > 0


def test_rows_are_never_fetched_singly(monkeypatch, curve):
    many_at_once = TensorDataset.__getitem__

    def get(self, index):
        assert isinstance(index, slice) or index.ndim == 1, "a row was fetched"
        return many_at_once(self, index)

    monkeypatch.setattr(TensorDataset, "__getitem__", get)
    AutoencoderTransformer(max_iter=1, noise=0.1, random_state=0).fit(curve).sample()


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


def test_a_pass_with_nothing_to_train_changes_nothing(curve):
    def frozen(n_in, n_out):
        return torch.nn.Linear(n_in, n_out).requires_grad_(False)

    model = AutoencoderTransformer(start="random", encoder=frozen, decoder=frozen, early_stopping=False).fit(curve)
    before = model.transform(curve)
    np.testing.assert_array_equal(model.partial_fit(curve).transform(curve), before)


def test_a_scheduler_goes_on_in_partial_fit(curve):
    scheduler = LRScheduler("StepLR", step_size=1)
    model = AutoencoderTransformer(max_iter=2, callbacks=[scheduler], early_stopping=False, random_state=0).fit(curve)
    assert model.partial_fit(curve).n_iter_ == 3


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
@pytest.mark.parametrize("mode", [torch.inference_mode, low_precision, other_device])
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
    X, y = np.where(np.arange(curve.size).reshape(curve.shape) % 7, curve, np.nan), curve[:, 0] > 0

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
