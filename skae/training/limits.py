"""Callbacks that end training."""

import time

from skorch.callbacks import Callback


class TimeLimit(Callback):
    """Callback that ends training at some time, after an epoch at least; the best weights so far are kept.

    Parameters
    ----------
    end : float
        In seconds since the epoch, as of `time.time`.
    """

    def __init__(self, end):
        self.end = end

    def on_epoch_end(self, net, **kwargs):
        if time.time() > self.end:
            raise KeyboardInterrupt
