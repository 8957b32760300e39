"""The state of a net that a file kept: what is wrong in it is named."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from training_cases import Toy, built, samples

from skae.training.checks import check_net_state


class Kept(Toy):
    """A network with everything that a state may hold."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(5).double()
        self.range = nn.Module()
        self.range.register_buffer("low", torch.full((5,), -torch.inf, dtype=torch.float64))
        self.n_steps_seen = 3

    def get_extra_state(self):
        return self.n_steps_seen

    def set_extra_state(self, state):
        self.n_steps_seen = state


@pytest.fixture(scope="module")
def state():
    net = built(Kept(), clipped=True)
    net.train_once(samples(np.random.RandomState(0).normal(size=(60, 5))))
    return net.get_state()


def changed(state, path, value):
    state = copy.deepcopy(state)
    *way, last = path.split("/")
    place = state
    for name in way:
        place = place[int(name) if name.isdigit() else name]
    if value is None:
        del place[last]
    else:
        place[int(last) if last.isdigit() else last] = value
    return state


def test_a_state_is_as_good_as_the_net(state):
    check_net_state(state, Kept())
    twin = built(Kept(), clipped=True).set_state(state)
    for name, part in twin.get_state()["weights"].items():
        np.testing.assert_array_equal(part, state["weights"][name])


def test_a_state_without_an_optimiser_is_one(state):
    check_net_state(state | {"optimizer": None}, Kept())


FEW = np.zeros((3,))
N_WEIGHTS = sum(p.numel() for p in Kept().parameters())


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("weights", None, "weights is missing"),
        ("weights", [], r"the weights of the net is \[\], not a dict"),
        ("weights/encoder.bias", None, r"the weights of the net has entries missing, or too many: encoder\.bias"),
        ("weights/surplus", FEW, "surplus"),
        ("weights/encoder.bias", FEW, r"encoder.bias is of float64 and shape \(3,\), not .*float64 and shape \(1,\)"),
        ("weights/encoder.bias", np.zeros(1, np.float32), "array of float64"),
        ("weights/encoder.bias", np.array([None]), "array of float64"),
        ("weights/encoder.bias", "text", "encoder.bias is str"),
        ("weights/encoder.bias", np.array([np.nan]), "encoder.bias has numbers that are not finite"),
        ("weights/encoder.bias", np.array([np.inf]), "encoder.bias has numbers that are not finite"),
        ("weights/encoder.bias", np.array([1e308]), r"encoder.bias has numbers beyond 2e\+19"),
        ("weights/range.low", np.full(5, np.nan), "range.low has numbers"),
        ("weights/norm.running_mean", np.full(5, np.inf), "running_mean has numbers"),
        ("weights/norm.num_batches_tracked", np.array(1.0), "num_batches_tracked is of float64"),
        ("weights/_extra_state", -1, "_extra_state is -1, not an integer"),
        ("weights/_extra_state", "text", "_extra_state is 'text', not an integer"),
        ("history", "text", "the history is no list"),
        ("history", [{}], "the history is no list"),
        ("gradient_scale", -1.0, "gradient_scale is -1.0, not a number of at least 0"),
        ("optimizer", [], "the optimiser's state"),
        ("optimizer/state", {99: {}}, "the optimiser's state"),
        ("optimizer/state/0/step", None, "group 0 has entries missing, or too many: step"),
        ("optimizer/state/0/exp_avg", FEW.astype(np.float32), "exp_avg is of float32 and shape"),
        ("optimizer/state/0/exp_avg_sq", np.full(N_WEIGHTS, -1, np.float32), "exp_avg_sq has -1, less than 0"),
        ("optimizer/mean_norm", np.float32(-1), "mean_norm is float32"),
        ("optimizer/mean_norm", np.array(-1, np.float32), "mean_norm has -1, less than 0"),
        ("optimizer/mean_norm", None, "the optimiser's state has entries missing, or too many: mean_norm"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_wrong_in_a_state_is_named(state, path, value, message):
    with pytest.raises(ValueError, match=message) as caught:
        check_net_state(changed(state, path, value), Kept())
    assert "damaged or was changed" in str(caught.value)


def test_what_is_no_dict_is_no_state():
    with pytest.raises(ValueError, match=r"net_ is \[\], not a dict"):
        check_net_state([], Kept())
