"""Callbacks that end training."""

import time

from skorch.callbacks import Callback


class TimeLimit(Callback):
    """Callback that ends training at some time, after an epoch at least; the best weights so far are kept.

    Parameters
    ----------
    end : float
        In seconds since the epoch, as of `time.time`.
    least : float, default=0.0
        Seconds that training may take in any case.
    """

    reads_training = False  # neither losses nor weights

    def __init__(self, end, least=0.0):
        self.end = end
        self.least = least

    def on_train_begin(self, net, **kwargs):
        self.until_ = max(self.end, time.time() + self.least)

    def on_epoch_end(self, net, **kwargs):
        if time.time() > self.until_:
            raise KeyboardInterrupt
