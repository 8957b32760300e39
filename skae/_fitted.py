"""The fitted network as functions of arrays: samples to codes and back, missing values, and what a file keeps of it."""

from __future__ import annotations

import copy
from dataclasses import asdict, replace
from functools import partial

import numpy as np
import torch
from sklearn.utils import check_array, gen_batches

from skae._torch import evaluation_batch_size, no_gradients, tensor_of, torch_dtype
from skae.data.checks import FLOATS, check_code_width
from skae.data.statistics import column_moments
from skae.linear.missing import hide_entries

# Numbers of the samples that have entries hidden to learn how to impute; the fewest and the most samples.
_HIDDEN_NUMBERS, _HIDDEN_SAMPLES = 2**15, (50, 500)
# Samples that decide the number of components.
MAX_SIZED = 1000


class Fitted:
    """A fitted network, and the way of arrays through it.

    Parameters
    ----------
    net : Net
    built : NetworkSpec
    table : ArrayTable or TableEncoder
    context : NoContext or ClassContext
    n_components : int
        Of the codes, the leading ones of the network's.
    """

    def __init__(self, net, built, table, context, n_components):
        self.net, self.built, self.table, self.context = net, built, table, context
        self.n_components = n_components

    @property
    def model(self):
        """The network, in float64."""
        return self.net.module_

    # What a subclass gives.

    def settle(self, estimator, training, held_out, best, before):
        """Decide the number of components, and learn what codes of training samples tell.

        Parameters
        ----------
        estimator : BaseNetTransformer
            Whose parameters say what is asked for.
        training, held_out : Samples
            The latter is None if no samples were held out.
        best : BestWeights or None
            None after `partial_fit`.
        before : Fitted or None
            What `partial_fit` continues from.
        """

    def attributes(self):
        """Return the fitted attributes of the estimator that describe the network, by name."""
        mean = self.model.scaler.mean.numpy(force=True)[self.table.order]
        attributes = {"n_components_": self.n_components, "mean_": mean}
        components = self.model.linear_components(self.n_components)
        if components is not None:
            attributes["components_"] = components.numpy(force=True)[:, self.table.order]
        return attributes

    def truncated(self, n_components):
        """Return the fitted network of the leading components."""
        other = copy.copy(self)
        other.n_components, other.built = n_components, replace(self.built, is_truncated=True)
        return other

    def fill_by_network(self, X):
        """Return samples whose missing values are replaced by the network's."""
        raise NotImplementedError

    # Arrays through the network.

    def encode(self, rows):
        """Encode samples: (n, n_features) -> (n, n_components)."""
        return self.encode_given(rows, self.context.values[0])

    def encode_given(self, rows, value):
        """Encode samples of one context."""
        value = torch.from_numpy(value)

        def codes(module, block):
            return module.to_codes(tensor_of(block).to(self.net.device), self.n_components, value)

        return self.map(rows, codes, self.n_components, width=self.net.width)

    def decode(self, Z):
        """Decode codes, by the mean over contexts: (n, n_components) -> (n, n_features)."""
        return self.context.expected(lambda value: self.decode_given(Z, np.broadcast_to(value, (len(Z), len(value)))))

    def decode_given(self, Z, context):
        """Decode codes, each with its context (n, n_context)."""
        n = Z.shape[1]

        def samples(module, block):
            both = tensor_of(block).to(self.net.device)
            return module.from_codes(both[:, :n], both[:, n:])

        return self.map(np.hstack([Z, context.astype(Z.dtype)]), samples, self.built.n_features)

    def map(self, rows, function, n_out, dtype=None, width=None):
        """Stack ``function(module, block)`` of blocks of samples, in their precision: memory is bounded."""
        out = np.empty((len(rows), n_out), dtype=dtype or rows.dtype)
        with no_gradients():
            module = self.net.inference_module(torch_dtype(rows))
            for block in gen_batches(len(rows), evaluation_batch_size(width or self.built.n_features)):
                found = function(module, rows[block])
                out[block] = found.numpy(force=True) if isinstance(found, torch.Tensor) else found
        return out

    def units_of(self, samples):
        """Return the function from a loss of scaled samples to one in units of X."""
        observed = samples.observed_shares() if self.built.has_missing else 1.0
        offset = self.table.mean_log_slope(samples)
        return lambda loss: self.model.loss_in_units(loss, observed) - offset

    # Missing values.

    def fill(self, X):
        """Return samples whose missing values are replaced: by the network, but for the Gaussian model's share."""
        share = float(self.model.imputation_share[self.n_components - 1])
        incomplete = np.flatnonzero(np.isnan(X).any(axis=1))
        filled = X.copy()
        if len(incomplete):
            rows = X[incomplete]
            means = self.fill_by_network(rows)
            filled[incomplete] = means + share * (self.fill_by_normal(rows) - means) if share else means
        return filled

    def fill_by_normal(self, X):
        """Return samples whose missing values are replaced as in front of the encoder, by the Gaussian model."""
        model = self.model
        n_columns, n_components = model.imputer.loadings.shape

        def fill(_, block):
            x = model.scaler(tensor_of(block).to(self.net.device))
            x = torch.nn.functional.pad(x, (0, n_columns - x.shape[1]), value=torch.nan)  # of an unknown context
            complete = model.imputer.fill(x.double())[:, : block.shape[1]].to(x.dtype)
            return np.where(np.isnan(block), model.scaler.inverse(complete).numpy(force=True), block)

        return self.map(X, fill, X.shape[1], width=max(n_columns, n_components**2))

    def learn_imputation(self, rows, processes):
        """Learn the Gaussian model's share in imputed values, for each size of codes; of some sizes it is measured."""
        if not (rows.has_missing and self.table.links == "identity"):
            return
        shares = np.zeros(self.built.n_components)
        for size in [level for level in self.model.levels if level < self.n_components] + [self.n_components]:
            of_size = self if size == self.n_components else self.truncated(size)
            shares[size - 1 :] = processes.of_first(partial(of_size._share_of_normal, rows))
        self.model.imputation_share.copy_(torch.from_numpy(shares))

    def _share_of_normal(self, rows):
        """The share with the least squared error, in standard deviations, on entries that are hidden for it."""
        random_state = np.random.RandomState(self.built.seed)
        n = int(np.clip(_HIDDEN_NUMBERS // rows.n_features, *_HIDDEN_SAMPLES))
        X = rows[rows.sample(n, random_state)]
        hidden = hide_entries(X, random_state)
        seen = np.where(hidden, np.nan, X)
        moments = column_moments(rows)
        units = np.where(moments.constant, 1.0, moments.deviation)
        means = self.fill_by_network(seen)
        step, error = (((target - means) / units)[hidden] for target in (self.fill_by_normal(seen), X))
        size = step @ step
        return float(np.clip(step @ error / size, 0, 1)) if size > 0 else 0.0

    # Files.

    def to_state(self):
        """Return arrays and plain Python that `restore` takes."""
        return {"built": asdict(self.built)}

    def restore(self, kept, state):
        """Take over what `to_state` gave, after checking it, given the estimator's state."""

    def check_exportable(self, name):
        """Raise ValueError if a graph of samples or codes alone cannot hold the network of an estimator's class."""
        self.table.check_exportable(name, self.built.parameters.get("likelihood"))
        self.context.check_exportable(name)


def check_codes(estimator, Z):
    """Return codes as an array, checked to be as wide as the estimator's."""
    Z = check_array(Z, dtype=FLOATS, input_name="X", estimator=estimator)
    check_code_width(estimator, Z.shape[1], estimator.n_components_)
    return Z
