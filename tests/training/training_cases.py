"""Small networks that training is tested with."""

import math
from typing import NamedTuple

import numpy as np
import torch
from skorch.callbacks import Callback
from torch import nn

from skae.data.datasets import InMemorySamples
from skae.networks.preprocessing import ExactModule
from skae.training.callbacks import BestWeights
from skae.training.net import Net


class Output(NamedTuple):
    z: torch.Tensor
    eta: torch.Tensor
    weight: torch.Tensor | None = None


class Toy(nn.Module):
    """Five columns through one number; the encoder is exempt from the penalty."""

    n_refinements = n_landmarks = 0

    def __init__(self, n_hidden=8, seed=0):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.encoder = nn.Linear(5, 1)
            self.decoder = nn.Sequential(nn.Linear(1, n_hidden), nn.Tanh(), nn.Linear(n_hidden, 5))
        self.double()

    def unpenalised(self):
        return self.encoder.parameters()

    def prepare(self):
        pass

    def forward(self, x):
        z = self.encoder(x)
        return Output(z, self.decoder(z))

    def reconstructions(self, outputs):
        return outputs[1]


class Sampling(Toy):
    """The same with noise on the codes: (n_draws, n or 1, 1)."""

    def forward(self, x, noise):
        z = self.encoder(x) + 0.1 * noise
        return Output(z, self.decoder(z))

    def reconstructions(self, outputs):
        return outputs[1].mean(0)


class Counting(Toy):
    """The same with dropout from torch's global generators, and statistics of batches."""

    def __init__(self):
        super().__init__()
        self.decoder = nn.Sequential(nn.BatchNorm1d(1), nn.Dropout(0.2), *self.decoder).double()


class Scaled(Toy):
    """The same, with a number beside it that no float32 is."""

    def __init__(self, seed=0):
        super().__init__(seed=seed)
        self.scaler = ExactModule()
        self.scaler.register_buffer("mean", torch.full((3,), 1 / 3, dtype=torch.float64))


class Error(nn.Module):
    def forward(self, output, target):
        return (output.eta - target).square().mean()


def samples(X):
    x = torch.as_tensor(np.array(X), dtype=torch.float32)
    return InMemorySamples(x, x)


def parts(X):
    """Training samples and a validation set."""
    whole = samples(X)
    return whole.subset(torch.arange(30, len(X))), whole.subset(torch.arange(30))


# Of a net, where a test is about none of these.
OPTIONS = {"width": 5, "alpha": 0.0, "relative": False, "averaged": True, "clipped": False, "progress": None}
OPTIONS |= {"uses_globals": False, "draws": None}


def built(module=None, *, generator_seed=0, **parameters):
    if isinstance(module, Sampling):
        parameters["draws"] = torch.tensor([[[1.0]], [[-1.0]]])
    return Net(
        module or Toy(),
        Error(),
        **OPTIONS | {"lr": 3e-3, "batch_size": 32, "iterator_train__noise": None} | parameters,
        iterator_train__generator=torch.Generator().manual_seed(generator_seed),
        device="cpu",
    ).initialize()


def trained(X, module=None, *, epochs=5, patience=100, tol=1e-4, validates=True, checkpoint=None, **parameters):
    """A net after training, with the best weights so far beside it."""
    net, best = built(module, **parameters), BestWeights(patience, tol)
    training, validation = parts(X) if validates else (samples(X), None)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net.train(training, validation, epochs, best, checkpoint)
    net.best = best
    return net


def weights(net):
    return {name: torch.as_tensor(part).numpy(force=True) for name, part in net.module_.state_dict().items()}


def assert_same_weights(found, expected):
    for (name, a), b in zip(weights(found).items(), weights(expected).values(), strict=True):
        np.testing.assert_array_equal(a, b, err_msg=name)


def assert_same_training(found, expected):
    """Bit for bit, whatever training leaves."""
    assert_same_weights(found, expected)
    assert (found.outcome_, found.returns_) == (expected.outcome_, expected.returns_)
    assert (found.best.loss, found.best.start_loss) == (expected.best.loss, expected.best.start_loss)
    for row, other in zip(found.history, expected.history, strict=True):
        np.testing.assert_equal(*({k: v for k, v in r.items() if k != "dur"} for r in (row, other)))


class Poison(Callback):
    """Breaks a weight at the beginning of some epochs."""

    def __init__(self, *epochs):
        self.epochs = epochs

    def on_epoch_begin(self, net, **kwargs):
        if len(net.history) in self.epochs:
            with torch.no_grad():
                net.module_.encoder.weight.fill_(math.nan)


class Rates(Callback):
    """The learning rate at each step and at each epoch's end."""

    def __init__(self):
        self.steps, self.epochs = [], []

    def on_batch_begin(self, net, training=None, **kwargs):
        if training:
            self.steps.append(net.optimizer_.param_groups[0]["lr"])

    def on_epoch_end(self, net, **kwargs):
        self.epochs.append(net.optimizer_.param_groups[0]["lr"])
