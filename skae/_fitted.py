"""The fitted network as functions of arrays: encoding, decoding, imputation, and the state that a file holds."""

import copy
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from sklearn.utils import check_array

from skae._torch import (
    device_of,
    evaluation_batch_size,
    is_on_device,
    like_part,
    no_gradients,
    tensor_of,
    to_array,
    torch_dtype,
)
from skae.data.checks import FLOATS, check_code_width
from skae.data.statistics import column_moments
from skae.data.tensors import checked_tensor
from skae.linear.missing import hide_entries
from skae.persistence import state as stored

# Subset in which entries are hidden to learn the imputation weight: its number of values, and bounds on its samples.
_HIDDEN_NUMBERS, _HIDDEN_SAMPLES = 2**15, (50, 500)
# Bounds on its samples if none of them has missing values: imputation may not be wanted.
_HIDDEN_COMPLETE = 50, 100
# Most samples on which the number of components is chosen.
MAX_SIZED = 1000


class Fitted:
    """A fitted network that encodes, decodes and imputes arrays.

    A subclass sets ``corrects_imputation`` if a network that was trained on complete samples also imputes with the help
    of the Gaussian model.

    Parameters
    ----------
    net : Net
    built : NetworkSpec
    table : ArrayTable or TableEncoder
    context : NoContext or ClassContext
    n_components : int
        Latent dimension; codes are the leading components of the network's.
    """

    corrects_imputation = False

    def __init__(self, net, built, table, context, n_components):
        self.net, self.built, self.table, self.context = net, built, table, context
        self.n_components = n_components

    @property
    def model(self):
        """The network, in float64."""
        return self.net.module_

    # Hooks for subclasses.

    def settle(self, estimator, training, held_out, best, before):
        """Choose the number of components, and compute what is estimated from codes of training samples.

        Parameters
        ----------
        estimator : BaseNetTransformer
            Supplies ``n_components`` and further parameters.
        training, held_out : Samples
            The latter is None if no samples were held out.
        best : BestWeights or None
            None after `partial_fit`.
        before : Fitted or None
            The fitted network that `partial_fit` continues from.
        """

    def attributes(self):
        """Return the fitted attributes of the estimator that describe the network, by name."""
        mean = self.model.scaler.mean.numpy(force=True)[self.table.order]
        attributes = {"n_components_": self.n_components, "mean_": mean, **self.table.attributes}
        components = self.model.linear_components(self.n_components)
        if components is not None:
            attributes["components_"] = components.numpy(force=True)[:, self.table.order]
        return attributes

    def truncated(self, n_components):
        """Return a fitted network with the first ``n_components`` components."""
        other = copy.copy(self)
        other.n_components, other.built = n_components, replace(self.built, is_truncated=True)
        return other

    def fill_by_network(self, X):
        """Impute missing values of a tensor by the network: (n, n_features) -> (n, n_features)."""
        raise NotImplementedError

    def learn_columns(self, rows):
        """Learn the encoding of columns that were constant so far and vary in these samples; return them encoded."""
        mean = self.model.scaler.mean
        means = mean.numpy(force=True).copy()
        rows = self.table.learn_columns(rows, means)
        mean.copy_(torch.from_numpy(means))
        return rows

    # Encoding and decoding.

    def encode(self, rows):
        """Encode samples: (n, n_features) -> (n, n_components)."""
        return self.encode_given(rows, self.context.values[0])

    def encode_given(self, rows, value):
        """Encode samples that share the context ``value`` (n_context,)."""
        n = self.n_components
        return self.map_given(rows, lambda module, x, value: module.to_codes(x, n, value), n)(value)

    def map_given(self, rows, function, n_out, dtype=None, width=None):
        """Return a function from the value of a context to ``function(module, x, value)`` of all samples; see `map`."""
        width = width or self.net.width
        return lambda value: self.map(rows, partial(function, value=torch.from_numpy(value)), n_out, dtype, width)

    def decode(self, Z):
        """Decode codes, averaged over contexts: (n, n_components) -> (n, n_features)."""
        return self.context.expected(lambda value: self.decode_given(Z, np.broadcast_to(value, (len(Z), len(value)))))

    def decode_given(self, Z, context):
        """Decode codes, each with its context (n, n_context)."""
        both, n = _joined(Z, context), Z.shape[1]
        return self.map(both, lambda module, z: module.from_codes(z[:, :n], z[:, n:]), self.built.n_features)

    def local_components(self, rows):
        """Return the decoder's derivatives at the codes of samples, (n, n_components, n_features)."""
        Z, n, width = self.encode(rows), self.n_components, self.n_components * self.built.n_features

        def of_context(value):
            both = _joined(Z, np.broadcast_to(value, (len(Z), len(value))))
            return self.map(both, lambda module, z: module.local_components(z[:, :n], z[:, n:]).flatten(1), width)

        return self.context.expected(of_context).reshape(len(Z), n, -1)

    def feature_scores(self, rows):
        """Return how well each column of the table fits to the others, the higher the better: (n, n_columns)."""
        raise NotImplementedError

    def map(self, rows, function, n_out, dtype=None, width=None):
        """Apply ``function(module, x)`` to blocks of samples, as tensors, and stack the results; it bounds memory.

        The result is a tensor on the device of the samples if these are a tensor, else an array.
        """
        with no_gradients():  # an inference tensor could not be written to
            out = torch.empty((len(rows), n_out), dtype=dtype or torch_dtype(rows), device=device_of(rows))
            module = self.net.inference_module(torch_dtype(rows))
            at_once = evaluation_batch_size(width or self.built.n_features)
            for block in (slice(i, i + at_once) for i in range(0, len(rows), at_once)):
                x = rows[block]
                out[block] = function(module, tensor_of(x).to(self.net.device))
        return out if torch.is_tensor(x) else out.numpy()

    def units_of(self, samples):
        """Return a function that converts a loss of scaled samples to units of X."""
        observed = samples.observed_shares() if self.built.has_missing else 1.0
        offset = self.table.mean_log_slope(samples)
        return lambda loss: self.model.loss_in_units(loss, observed) - offset

    # Missing values.

    def fill(self, X):
        """Impute missing values by a weighted mean of the network's and the Gaussian model's imputations."""
        share = float(self.model.imputation_share[self.n_components - 1])

        def fill(x):
            means = self.fill_by_network(x)
            return means + share * (self.fill_by_normal(x) - means) if share else means

        return self.filled(X, fill)

    def filled(self, X, fill):
        """Apply a function of tensors to the incomplete samples of an array or a tensor."""
        x = tensor_of(X)
        incomplete, filled = x.isnan().any(1), x.clone()
        if incomplete.any():
            filled[incomplete] = fill(x[incomplete])
        return filled if torch.is_tensor(X) else filled.numpy()

    def fill_by_normal(self, X):
        """Impute missing values by the Gaussian model in front of the encoder."""
        model = self.model
        n_columns, n_components = model.imputer.loadings.shape

        def fill(_, x):
            scaled = model.scaler(x)
            padded = torch.nn.functional.pad(scaled, (0, n_columns - x.shape[1]), value=torch.nan)  # unknown context
            complete = model.imputer.fill(padded.double())[:, : x.shape[1]].to(scaled.dtype)
            return torch.where(x.isnan(), model.scaler.inverse(complete), x)

        return self.map(X, fill, X.shape[1], width=max(n_columns, n_components**2))

    def learn_imputation(self, rows, validation, processes):
        """Learn the Gaussian model's weight in imputed values at each level; other sizes use the level below.

        Training samples favour the network, so the weight is at least that of the validation set, a pair of samples and
        indices or None: there the error is at most that of the Gaussian model.
        """
        if self.table.links != "identity":
            return
        shares = np.zeros(self.built.n_components)
        for size in [level for level in self.model.levels if level < self.n_components] + [self.n_components]:
            of_size = self if size == self.n_components else self.truncated(size)
            shares[size - 1 :] = processes.of_first(partial(of_size._share_of_normal, rows, validation))
        self.model.imputation_share.copy_(torch.from_numpy(shares))

    def _share_of_normal(self, rows, validation):
        moments = column_moments(rows)
        units = np.where(moments.constant, 1.0, moments.deviation)
        share = self._best_share(rows, None, units)
        return share if validation is None else max(share, self._best_share(*validation, units))

    def _best_share(self, rows, index, units):
        """Return the weight with the least squared error, in these units of the columns, on hidden entries."""
        random_state = np.random.RandomState(self.built.seed)
        least, most = _HIDDEN_SAMPLES if rows.has_missing else _HIDDEN_COMPLETE
        n = int(np.clip(_HIDDEN_NUMBERS // rows.n_features, least, most))
        drawn = rows.sample(n, random_state) if index is None else random_state.permutation(index)
        drawn = np.resize(drawn, n)  # if they are few, other entries of each are hidden again
        x = tensor_of(rows[drawn])
        hidden = torch.from_numpy(hide_entries(x.isnan().numpy(force=True), random_state)).to(x.device)
        seen = x.masked_fill(hidden, torch.nan)
        if rows.weights is not None:
            units = units / np.sqrt(rows.weights[drawn, None])
        means, units = self.fill_by_network(seen), torch.from_numpy(units).to(x.device)
        step, error = (((target - means) / units)[hidden] for target in (self.fill_by_normal(seen), x))
        size, product = float(step @ step), float(step @ error)
        return float(np.clip(product / size, 0, 1)) if size > 0 else 0.0

    # Files.

    def to_state(self):
        """Return the state for `restore`, as arrays and plain Python."""
        model = copy.deepcopy(self.model).double().eval()  # it may be in training now
        typical, again = model.typical(), model.typical()
        return {
            "built": dict(vars(self.built)),  # no copies: parameters are compared to the estimator's
            "typical": typical.numpy(force=True) if torch.equal(typical, again) else None,  # own modules may be random
            "n_refinements": model.n_refinements,
            "landmarks": model.landmarks.codes.numpy(force=True),
        }

    def restore(self, kept, state):
        """Check and restore ``kept``, the output of `to_state`; ``state`` is the estimator's."""
        model = self.model
        n = min(stored.length_of(kept, "landmarks", 0), model.n_landmarks)
        stored.check_array(kept, "landmarks", (n, model.landmarks.codes.shape[1]))
        model.n_refinements = stored.check_integer(kept, "n_refinements", 0, model.n_refinements)
        model.landmarks.codes = torch.tensor(kept["landmarks"], device=self.net.device)


def check_codes(estimator, Z):
    """Check that codes have ``n_components_`` columns and return them as an array."""
    check = partial(check_array, dtype=FLOATS, input_name="X", estimator=estimator)
    Z = checked_tensor(Z, check, allow_nan=False) if is_on_device(Z) else check(to_array(Z))
    check_code_width(estimator, Z.shape[1], estimator.n_components_)
    return Z


def _joined(Z, context):
    """Append the context (n, n_context) to codes, an array or a tensor."""
    both = [Z, like_part(context, Z)]
    return torch.cat(both, dim=1) if torch.is_tensor(Z) else np.hstack(both)
