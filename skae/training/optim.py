"""Adam with gradient clipping, its groups of parameters, and the schedule of its learning rate."""

from __future__ import annotations

from inspect import unwrap

import torch
from torch.nn.utils import vector_to_parameters
from torch.optim.lr_scheduler import OneCycleLR

# Gradient clipping: the largest norm relative to its running mean, and the weight of a step in that mean.
_LARGEST_NORM, _NORM_SHARE = 4, 1 / 20
# Settings of a group of parameters that schedules and `Adam.restart` change.
_RATES = {"lr", "initial_lr", "max_lr", "min_lr", "betas"}


class Adam(torch.optim.Adam):
    """torch's Adam, which updates all parameters of a group as one vector.

    The calls of a step take longer than its arithmetic if the network is small. So parameters become views of one
    vector, and their gradients views of another. The updates are those of torch's Adam, where a parameter that the loss
    does not use has a gradient of zero.

    This class also omits the wrappers that disable torch's compiler inside it. Nothing here is compiled, and the first
    call of such a wrapper imports the compiler. This takes one to two seconds and 70 MB, more than a fit of a small
    table.

    Parameters
    ----------
    groups : list of dict
        Each has a list of parameters, "params", and settings of its own.
    **settings
        Of `torch.optim.Adam`, for all groups.

    Attributes
    ----------
    values : Tensor of shape (n_values,)
        All parameters; a change of it changes them.
    mean_norm : Tensor of shape () or None
        Running mean of the norm of all gradients together; None before the first call of `clip_gradients`.
    """

    mean_norm = None
    add_param_group = unwrap(torch.optim.Adam.add_param_group)

    def __init__(self, groups, **settings):
        self._parameters = [p for group in groups for p in group["params"]]
        of_groups = [sum(p.numel() for p in group["params"]) for group in groups]
        self.values = torch.cat([p.detach().flatten() for p in self._parameters])
        parts = self.values.split(of_groups)
        joined = [group | {"params": [part]} for group, part in zip(groups, parts, strict=True)]
        super().__init__(joined, fused=True, **settings)
        self._gradient = torch.zeros_like(self.values)
        for part, gradient in zip(parts, self._gradient.split(of_groups), strict=True):
            part.grad = gradient
        self.join()

    def join(self):
        """Make the parameters views of one vector, with their values; again after the module's dtype has changed."""
        self.values.copy_(torch.cat([p.detach().flatten() for p in self._parameters]))
        vector_to_parameters(self.values, self._parameters)
        parts = self._gradient.split([p.numel() for p in self._parameters])
        self._gradients = [part.view_as(p) for part, p in zip(parts, self._parameters, strict=True)]
        self._addresses = [p.data_ptr() for p in self._parameters]
        self.zero_grad()

    def state_dict(self):
        return unwrap(torch.optim.Adam.state_dict)(self) | {"mean_norm": self.mean_norm}

    def load_state_dict(self, state):
        """Restore averages and rates; other settings stay those that the optimiser was built with."""
        own = self.state_dict()["param_groups"]
        groups = [
            group | {name: kept[name] for name in _RATES & group.keys()}
            for group, kept in zip(own, state["param_groups"], strict=True)
        ]
        unwrap(torch.optim.Adam.load_state_dict)(self, state | {"param_groups": groups})
        mean = state["mean_norm"]
        self.mean_norm = None if mean is None else mean.to(self.param_groups[0]["params"][0])

    def zero_grad(self, set_to_none=False):  # always to zero
        if self._addresses != [p.data_ptr() for p in self._parameters]:  # a callback has set their data
            self.join()
        self._gradient.zero_()
        for p, gradient in zip(self._parameters, self._gradients, strict=True):
            p.grad = gradient  # a callback may have replaced it

    @torch.no_grad()
    def step(self, closure=None):
        """Update the parameters, but those that are frozen or without a gradient: their averages would move them."""
        self._gather()
        kept = [(p, p.clone()) for p in self._parameters if p.grad is None or not p.requires_grad]
        unwrap(torch.optim.Adam.step)(self, closure)
        for p, value in kept:
            p.copy_(value)

    def _gather(self):
        """Write gradients that a callback has set into the vector, zero for one that it has dropped."""
        for p, gradient in zip(self._parameters, self._gradients, strict=True):
            if p.grad is None:
                gradient.zero_()
            elif p.grad is not gradient:
                gradient.copy_(p.grad)

    @torch.no_grad()
    def clip_gradients(self):
        """Clip gradients whose norm is far above its running mean, without synchronisation with the device."""
        norm = torch.linalg.vector_norm(self._gradient)
        mean = norm if self.mean_norm is None else self.mean_norm
        mean = torch.where(mean > 0, mean, norm)  # the mean was zero or not finite
        clipped = norm.minimum(_LARGEST_NORM * mean)
        self._gradient.mul_(torch.where(clipped < norm, clipped / norm, 1))
        self.mean_norm = mean.lerp(clipped, _NORM_SHARE)

    def restart(self, factor):
        """Reset the optimiser's state, and multiply the learning rate, also in a schedule, by a factor."""
        self.state.clear()
        self.mean_norm = None
        for group in self.param_groups:  # a one-cycle schedule uses the last two
            for rate in {"lr", "initial_lr", "max_lr", "min_lr"} & group.keys():
                group[rate] *= factor


def split_parameters(module):
    """Return the trainable parameters in two lists: those with an L2 penalty, and the others.

    The penalty is on weights: parameters of more than one dimension. A module exempts parameters by a method
    ``unpenalised()`` that returns them: the linear part of a corrected linear map, and biases and gates of several
    levels.
    """
    exempt = {id(p) for m in module.modules() if hasattr(m, "unpenalised") for p in m.unpenalised()}
    trainable = [p for p in module.parameters() if p.requires_grad]
    penalised = [p for p in trainable if p.ndim > 1 and id(p) not in exempt]
    kept = {id(p) for p in penalised}
    return penalised, [p for p in trainable if id(p) not in kept]


def build_optimizer(module, lr, penalty, betas=(0.9, 0.999)):
    """Return Adam for the trainable parameters of a module, with an L2 penalty on its weights."""
    penalised, others = split_parameters(module)
    groups = [{"params": penalised + others}]  # one call a step
    if penalty:
        groups = [{"params": penalised, "weight_decay": penalty}, {"params": others}]
    optimizer = Adam([group for group in groups if group["params"]], lr=lr, betas=betas)
    for group in optimizer.param_groups:
        group["initial_lr"] = lr  # a scheduler that continues in partial_fit needs it
    return optimizer


def one_cycle(optimizer, lr, n_steps):
    """Return a schedule in which the learning rate rises to ``lr`` once and falls again, over ``n_steps`` steps."""
    # The rate rises in a tenth of the steps; torch needs a rise of more than one step.
    return OneCycleLR(optimizer, max_lr=lr, total_steps=n_steps, pct_start=0.1 if n_steps > 10 else 0.3)
