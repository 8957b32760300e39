"""Golden answers: codes, scores, draws and held-out errors of a dozen estimators on six tables, in golden.npz.

`python tests/golden.py` computes them anew, for a commit that changes what fits give, which says so.
"""

import warnings
from pathlib import Path

import numpy as np
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris, load_wine, make_swiss_roll
from sklearn.preprocessing import minmax_scale

from skae import AutoencoderTransformer, VAEGenerator, reconstruction_error

PATH = Path(__file__).parent / "golden.npz"
N_SAMPLES, N_SHOWN = 80, 4
# Training with early stopping takes more samples, and as many are held out.
N_TRAINED, DEFAULT_MAX_ITER = 200, AutoencoderTransformer().max_iter


def shares(X):
    return minmax_scale(X).clip(0, 1)


def counts(X):
    return np.round(6 * shares(X))


def with_missing(X):
    return np.where(np.random.RandomState(0).uniform(size=X.shape) < 0.1, np.nan, X)


LOADERS = load_breast_cancer, load_diabetes, load_digits, load_iris, load_wine


def tables():
    """Return six tables of different units and shapes, by name."""
    found = {loader.__name__[5:]: loader().data[::2][:N_SAMPLES] for loader in LOADERS}
    return found | {"swiss_roll": make_swiss_roll(N_SAMPLES, random_state=0)[0]}


def large_tables():
    """Return the same tables with the samples that training takes and those that are held out, alternately."""
    found = {loader.__name__[5:]: loader().data[: 2 * N_TRAINED] for loader in LOADERS}
    return found | {"swiss_roll": make_swiss_roll(2 * N_TRAINED, random_state=0)[0]}


# An estimator, and what is made of a table first.
CASES = {
    "autoencoder": (AutoencoderTransformer(), None),
    "ordered autoencoder": (AutoencoderTransformer(ordered=True), None),
    "denoising autoencoder": (AutoencoderTransformer(loss="huber", noise=0.2), None),
    "autoencoder of shares": (AutoencoderTransformer(loss="log_loss"), shares),
    "autoencoder with missing values": (AutoencoderTransformer(), with_missing),
    "random autoencoder": (AutoencoderTransformer(start="random", hidden_layer_sizes=(8,)), None),
    "vae": (VAEGenerator(), None),
    "vae from pca": (VAEGenerator(start="pca", prior="mixture"), None),
    "ordered vae": (VAEGenerator(ordered=True), None),
    "vae of counts": (VAEGenerator(likelihood="negative_binomial"), counts),
    "vae of bits": (VAEGenerator(likelihood="bernoulli"), lambda X: (shares(X) > 0.5).astype(float)),
    "vae with missing values": (VAEGenerator(), with_missing),
}


# At PCA the gradients of the encoder are zero but for rounding, which Adam scales up to whole steps. After few epochs
# these fits depend on the processor: codes differ by up to 14 % between two. After all epochs errors agree.
_STATIONARY = {"autoencoder", "ordered autoencoder"}


def numbers_of_epochs(name):
    """Return the numbers of epochs after which the answers of a case are kept."""
    return (0,) if name in _STATIONARY else (0, 5)


def fitted(name, X, max_iter):
    """Return the estimator of a case fitted to X."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return CASES[name][0].set_params(max_iter=max_iter, random_state=0).fit(X)


def changed(name, X):
    """Return X as the case takes it."""
    change = CASES[name][1]
    return X if change is None else change(X)


def held_out_error(name, X):
    """Return the error of a fit with the default number of epochs, of the samples that it has not seen."""
    X = changed(name, X)
    return reconstruction_error(fitted(name, X[::2], DEFAULT_MAX_ITER), X[1::2])


def answers(name, X, max_iter):
    """Return codes and scores of the first samples of X, and the first columns of draws, of one fit."""
    X = changed(name, X)
    model = fitted(name, X, max_iter)
    drawn = model.sample(N_SHOWN, random_state=0)[:, :N_SHOWN]
    some = X[:N_SHOWN]
    return {"codes": model.transform(some), "scores": model.score_samples(some), "draws": drawn}


def held_out_errors():
    """Return the held-out errors of all cases on all tables, by name."""
    return {f"{name}/{table}": held_out_error(name, X) for table, X in large_tables().items() for name in CASES}


def all_answers():
    """Return the answers of all cases on all tables after 0 and 5 epochs, and held-out errors, by name."""
    found = {f"{name}/held-out error": error for name, error in held_out_errors().items()}
    for table, X in tables().items():
        for name in CASES:
            for max_iter in numbers_of_epochs(name):
                for kind, array in answers(name, X, max_iter).items():
                    found[f"{name}/{table}/{max_iter}/{kind}"] = array
    return found


if __name__ == "__main__":
    np.savez_compressed(PATH, **all_answers())
