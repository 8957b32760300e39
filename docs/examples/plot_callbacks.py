"""
Callbacks: watch and change a fit
=================================

``callbacks`` takes callbacks of skorch and your own. This example has one of each. Its own callback records the
learning rate in the history of the net. skorch's `LRScheduler` replaces the one-cycle schedule, to see how much that
schedule gains.
"""

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from skorch.callbacks import Callback, LRScheduler
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR

from skae import AutoencoderTransformer, reconstruction_error

X_train, X_test = train_test_split(load_digits().data, random_state=0)


class Watch(Callback):
    """Record the learning rate of the last batch of each epoch."""

    def on_batch_end(self, net, **kwargs):
        self.rate_ = net.optimizer_.param_groups[0]["lr"]

    def on_epoch_end(self, net, **kwargs):
        net.history.record("rate", self.rate_)


def constant(epoch):
    return 1.0


# %%
# The estimator clones callbacks, as a meta-estimator clones estimators. So read what they recorded from the fitted
# net.

epochs = 60
schedules = {
    "one cycle, the default": [],
    "constant": [LRScheduler(LambdaLR, lr_lambda=constant)],
    "cosine": [LRScheduler(CosineAnnealingLR, T_max=epochs)],
}
models, errors = {}, {}
for label, callbacks in schedules.items():
    model = AutoencoderTransformer(8, max_iter=epochs, callbacks=[Watch(), *callbacks], random_state=0).fit(X_train)
    models[label], errors[label] = model, reconstruction_error(model, X_test)
    seconds = sum(model.net_.history[:, "dur"])
    print(f"{label:22} held-out error {errors[label]:.3f}, {seconds:.1f} s in {model.n_iter_} epochs")

# %%
# The validation loss is that of the running average of the weights, which removes the noise of a constant learning
# rate. On this table the errors of all three schedules are within a tenth of each other.

figure, axes = plt.subplots(2, 1, figsize=(7, 5.4), layout="constrained", sharex=True, height_ratios=[2, 1])
for (label, model), style in zip(models.items(), ["-", ":", "--"], strict=True):
    axes[0].plot(model.validation_loss_curve_, style, label=f"{label}: {errors[label]:.2f}")
    axes[1].plot(model.net_.history[:, "rate"], style)
axes[0].set(ylabel="validation loss", yscale="log", title="digits, 8 components")
axes[0].legend(frameon=False, title="error of test samples")
axes[1].set(xlabel="epoch", ylabel="learning rate")
plt.show()
