"""Batches of samples: their number and order, and the noise that is added to inputs."""

import math

from skae.data.datasets import add_noise


class Batches:
    """Batches of a dataset: the fewest that do not exceed ``batch_size``.

    Parameters
    ----------
    samples : Samples
    batch_size : int
        Largest size of a batch.
    generator : torch.Generator or None, default=None
        Source of a new order of the samples at each pass; None keeps the order.
    noise : Tensor of shape (n_features,) or None, default=None
        Standard deviations of Gaussian noise added to the inputs of shuffled batches, drawn from ``generator``.
    reuse_memory : bool, default=False
        Whether a shuffled batch may overwrite the one before.
    """

    def __init__(self, samples, batch_size, generator=None, noise=None, reuse_memory=False):
        self.samples = samples
        self.batch_size = batch_size
        self.generator = generator
        self.noise = noise
        self.reuse_memory = reuse_memory
        self.n_batches = max(1, math.ceil(len(samples) / batch_size))

    def __len__(self):
        return self.n_batches

    def __iter__(self):
        if self.generator is None:
            return iter(self.samples.in_order(self.n_batches))
        batches = self.samples.shuffled(self.n_batches, self.generator, self.reuse_memory)
        if self.noise is None:
            return iter(batches)
        return ((add_noise(x, self.noise, self.generator), *rest) for x, *rest in batches)
