"""scikit-learn's callbacks, `sklearn.callback` from version 1.9 on, which get the epochs of a fit as its subtasks."""

from contextlib import contextmanager

from skorch.callbacks import Callback

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:  # scikit-learn before 1.9

    class CallbackSupportMixin:
        """Base class of estimators without callbacks."""

    def with_callbacks(method):
        return method


class EpochTasks(Callback):
    """skorch callback that reports each epoch to scikit-learn's callbacks, and stops training if one asks for it.

    Parameters
    ----------
    context : sklearn.callback.CallbackContext
        Context of the fit.
    task : dict
        Arguments of the hooks: the estimator, X, y and metadata.
    snapshot : callable () -> dict
        Returns the fitted attributes of an estimator with the current weights.
    """

    def __init__(self, context, task, snapshot):
        self.context, self.task, self.snapshot = context, task, snapshot

    def on_epoch_begin(self, net, **kwargs):
        self.epoch = self.context.subcontext(task_name="epoch")
        self.epoch.call_on_fit_task_begin(**self.task)

    def on_epoch_end(self, net, **kwargs):
        if self.epoch.call_on_fit_task_end(**self.task, reconstruction_attributes=self.snapshot):
            raise KeyboardInterrupt


@contextmanager
def reported(estimator, net, n_epochs, X, y, sample_weight, snapshot):
    """Report the epochs that a net is trained for inside the block to the estimator's callbacks, if it has any."""
    if not getattr(estimator, "_skl_callbacks", None):
        yield
        return
    metadata = None if sample_weight is None else {"sample_weight": sample_weight}
    task = {"estimator": estimator, "X": X, "y": y, "metadata": metadata}
    context = estimator._init_callback_context(max_subtasks=n_epochs)
    context.call_on_fit_task_begin(**task)
    net.callbacks_.append(("tasks", EpochTasks(context, task, snapshot)))
    try:
        yield
    finally:
        net.callbacks_.pop()
    context.call_on_fit_task_end(**task, reconstruction_attributes=snapshot)
