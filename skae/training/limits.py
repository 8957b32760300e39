"""Callbacks that end training."""

import time

from skorch.callbacks import Callback


class TimeLimit(Callback):
    """Callback that ends training after some seconds; the best weights so far are kept.

    Parameters
    ----------
    seconds : float
    """

    def __init__(self, seconds):
        self.seconds = seconds

    def on_train_begin(self, net, **kwargs):
        self.began_ = time.monotonic()

    def on_epoch_end(self, net, **kwargs):
        if time.monotonic() - self.began_ > self.seconds:
            raise KeyboardInterrupt
