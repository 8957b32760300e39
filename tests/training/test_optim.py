"""Adam, the clipping of gradients and what the penalty is on."""

import numpy as np
import pytest
import torch
from torch import nn
from training_cases import OPTIONS

from skae.training.net import Net
from skae.training.optim import Adam, build_optimizer, one_cycle, split_parameters


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_adam_takes_torchs_steps(decay, seed):
    def walk(optimizer, **settings):
        torch.manual_seed(seed)
        net = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
        groups = [{"params": [net[0].weight, net[1].weight], "weight_decay": decay}]
        groups += [{"params": [net[0].bias, net[1].bias]}]
        optimizer = optimizer(groups, lr=0.1, **settings)
        for _ in range(5):
            optimizer.zero_grad()
            net(torch.ones(4, 3)).square().sum().backward()
            optimizer.step()
        return net.state_dict(), optimizer.state_dict()

    (ours, state), (theirs, _) = walk(Adam), walk(torch.optim.Adam, fused=True)
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-6, atol=0)
    again = Adam([{"params": [nn.Linear(4, 5).weight]}, {"params": [nn.Linear(2, 3).weight]}])
    again.load_state_dict(state)
    assert again.param_groups[0]["lr"] == 0.1


def test_parameters_of_a_converted_module_are_joined_again():
    layer = nn.Linear(3, 2)
    optimizer = build_optimizer(layer, 0.1, 0)
    layer.double().float()
    before = layer.weight.clone()
    optimizer.join()
    assert torch.equal(layer.weight, before)
    layer(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    assert torch.allclose(layer.weight, before - 0.1)


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_a_frozen_parameter_stays_and_trains_on_when_it_is_unfrozen(decay):
    layer = nn.Linear(3, 2)
    optimizer = build_optimizer(layer, 0.1, decay)

    def step():
        optimizer.zero_grad()
        layer(torch.ones(1, 3)).sum().backward()
        before = layer.weight.clone(), layer.bias.clone()
        optimizer.step()
        return [not torch.equal(new, old) for new, old in zip((layer.weight, layer.bias), before, strict=True)]

    assert step() == [True, True]
    layer.weight.requires_grad_(False)
    assert step() == [False, True]
    layer.weight.requires_grad_(True)
    assert step() == [True, True]


def test_a_callback_may_set_or_drop_gradients_before_a_step():
    layer = nn.Linear(3, 2)
    optimizer = build_optimizer(layer, 0.1, 0)
    for _ in range(2):
        optimizer.zero_grad()
        layer(torch.ones(1, 3)).sum().backward()
        layer.weight.grad = -layer.weight.grad
        weight, bias = layer.weight.clone(), layer.bias.clone()
        optimizer.step()
        assert torch.allclose(layer.weight, weight + 0.1)
        assert torch.allclose(layer.bias, bias - 0.1)
    optimizer.zero_grad()
    layer(torch.ones(1, 3)).sum().backward()
    layer.bias.grad = None
    optimizer.step()
    assert torch.allclose(layer.bias, bias - 0.1)


def test_a_callback_may_set_the_data_of_parameters():
    layer = nn.Linear(3, 2)
    optimizer = build_optimizer(layer, 0.1, 0)
    layer.weight.data = torch.full((2, 3), 5.0)
    optimizer.zero_grad()
    layer(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    assert torch.allclose(layer.weight, torch.tensor(4.9))
    assert torch.equal(optimizer.values, torch.cat([layer.weight.flatten(), layer.bias]))


def test_a_callback_may_drop_gradients():
    layer = nn.Linear(3, 2)
    optimizer = build_optimizer(layer, 0.1, 0)
    before = layer.bias.clone()
    layer.zero_grad(set_to_none=True)
    optimizer.zero_grad()
    layer(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    assert torch.allclose(layer.bias, before - 0.1)


class Weighed(nn.Module):
    """Two weights, whose gradients are .6 and .8 times the mean of a batch."""

    n_refinements = n_landmarks = 0

    def __init__(self):
        super().__init__()
        self.weights = nn.ParameterList([torch.zeros(1), torch.zeros(1)])

    def forward(self, x):
        return ((0.6 * self.weights[0] + 0.8 * self.weights[1]) * x,)


class Mean(nn.Module):
    def forward(self, output, target):
        return output[0].mean()


@pytest.mark.parametrize(
    ("clipped", "norms", "expected"),
    [
        (False, [4, -6, 100, 100, 4], [4, -6, 100, 100, 4]),
        (True, [4, -6, 100, 100, 4], [4, -6, 16.4, 18.86, 4]),
        (True, [0, 3, 100], [0, 3, 12]),
        (True, [2, np.nan, 9, 100], [2, np.nan, 9, 36]),
    ],
)
def test_gradients_are_clipped_to_four_times_the_running_mean_of_their_norm(clipped, norms, expected):
    net = Net(Weighed(), Mean(), **OPTIONS | {"width": 1, "clipped": clipped}, lr=0.1, batch_size=1)
    net.set_params(iterator_train__generator=torch.Generator()).initialize()
    net.module_.float()
    net.optimizer_ = build_optimizer(net.module_, 0.1, 0)
    for norm, left in zip(norms, expected, strict=True):
        net.train_step((torch.full((1, 1), float(norm)), None))
        gradients = [weight.grad.item() for weight in net.module_.weights]
        assert gradients == pytest.approx([0.6 * left, 0.8 * left], nan_ok=True)
    assert (net.optimizer_.mean_norm is not None) == clipped


class Exempting(nn.Linear):
    def unpenalised(self):
        return [self.weight]


def test_the_penalty_is_on_trainable_weights_that_no_module_exempts():
    net = nn.Sequential(nn.Linear(3, 4), Exempting(4, 4), nn.Linear(4, 2).requires_grad_(False), nn.Conv2d(1, 1, 3))
    penalised, others = split_parameters(net)
    names = {id(p): name for name, p in net.named_parameters()}
    assert [names[id(p)] for p in penalised] == ["0.weight", "3.weight"]
    assert [names[id(p)] for p in others] == ["0.bias", "1.weight", "1.bias", "3.bias"]
    values = [torch.cat([p.detach().flatten() for p in part]) for part in (penalised, others)]
    groups = build_optimizer(net, 0.1, 0.5).param_groups
    assert [group["weight_decay"] for group in groups] == [0.5, 0]
    for group, expected in zip(groups, values, strict=True):
        assert torch.equal(*group["params"], expected)
    (group,) = build_optimizer(net, 0.1, 0).param_groups
    assert torch.equal(*group["params"], torch.cat(values))


def test_a_restart_forgets_steps_and_lowers_all_rates():
    layer = nn.Linear(3, 2)
    optimizer = build_optimizer(layer, 0.1, 0)
    schedule = one_cycle(optimizer, 0.1, 100)
    layer(torch.ones(1, 3)).sum().backward()
    optimizer.clip_gradients()
    optimizer.step()
    before = dict(optimizer.param_groups[0])
    optimizer.restart(0.1)
    assert not optimizer.state
    assert optimizer.mean_norm is None
    for rate in ("lr", "initial_lr", "max_lr", "min_lr"):
        assert optimizer.param_groups[0][rate] == pytest.approx(before[rate] / 10)
    rates = []
    for _ in range(99):
        optimizer.step()
        schedule.step()
        rates.append(optimizer.param_groups[0]["lr"])
    assert max(rates) == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize("n_steps", [1, 2, 10, 11, 100])
def test_one_cycle_peaks_at_the_rate_and_ends_near_zero(n_steps):
    optimizer = build_optimizer(nn.Linear(3, 2), 0.1, 0)
    schedule, rates = one_cycle(optimizer, 0.1, n_steps), []
    for _ in range(n_steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if len(rates) < n_steps:
            schedule.step()
    assert max(rates) <= 0.1
    if n_steps >= 10:
        assert max(rates) == pytest.approx(0.1, rel=0.15)
        assert rates[-1] < 1e-5
