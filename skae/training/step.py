"""The loss of a batch: what training asks of the networks that it trains."""

from __future__ import annotations

from contextlib import contextmanager

import torch


class Step:
    """The loss of one batch of a network.

    Parameters
    ----------
    module : nn.Module
        Its ``n_refinements`` says how many steps it takes in eval mode only.
    criterion : nn.Module
        (output of the module, target) -> scalar.
    draws : Tensor of shape (n_draws, 1, n_components) or None
        Noise of every evaluation, for a module that samples codes; in training it is one fresh draw for each sample.
    generator : torch.Generator
        Source of fresh draws.
    """

    def __init__(self, module, criterion, draws, generator):
        self.module, self.criterion, self.draws, self.generator = module, criterion, draws, generator

    def training_loss(self, x, target):
        """Return the loss of a batch, and the module's output, with fresh draws."""
        output = self.training_output(x)
        return self.criterion(output, target), output

    def validation_loss(self, x, target):
        """Return the loss of a batch, and the module's output, with the draws that all evaluations share."""
        output = self.output(x)
        return self.criterion(output, target), output

    def training_output(self, x):
        if self.draws is None:
            return self.module(x)
        shape = (1, len(x), self.draws.shape[-1])
        return self.module(x, torch.randn(shape, generator=self.generator, device=x.device, dtype=x.dtype))

    def output(self, x):
        return self.module(x) if self.draws is None else self.module(x, self.draws.to(x.dtype))

    @contextmanager
    def unrefined(self):
        """Evaluate as training does inside the block: unrefined, with one antithetic pair of draws.

        That is enough for a linear model.
        """
        refinements, draws = self.module.n_refinements, self.draws
        self.module.n_refinements = 0
        self.draws = None if draws is None else draws[:: len(draws) // 2]
        try:
            yield
        finally:
            self.module.n_refinements, self.draws = refinements, draws


def tensors_of(output):
    """Return the tensors of a module's output, nested tuples, in one: skorch's callbacks know these only."""
    if output is None:
        return ()
    return (output,) if isinstance(output, torch.Tensor) else tuple(t for part in output for t in tensors_of(part))
