"""Write the fitted files of this version to files/<version>/, with the results that each later version must compute.

`make release-files` runs this on the lowest versions of the dependencies, since files open with newer ones. The folder
of the version in skae/_version.py is rewritten until it is released, that of a released version never.
"""

import pickle
import shutil
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import skops.io
from sklearn.datasets import load_iris

import skae
from skae import AutoencoderTransformer, LatentSizeCV, VAEGenerator

FOLDER = Path(__file__).parent / "files"
ROWS = load_iris().data[::3]
SPECIES = load_iris().target[::3]


def missing():
    return np.where(np.arange(ROWS.size).reshape(ROWS.shape) % 7 == 0, np.nan, ROWS)


def mixed():
    kinds = pd.Categorical(np.where(ROWS[:, 1] > 3, "wide", "narrow"))
    return pd.DataFrame({"length": ROWS[:, 0], "kind": kinds, "count": (5 * ROWS[:, 2]).astype(int)})


QUICK = {"hidden_layer_sizes": (4,), "max_iter": 2, "random_state": 0}
# An estimator and its samples, by the name of its files. Later versions add cases, and drop none.
CASES = {
    "autoencoder": (AutoencoderTransformer(2, **QUICK), lambda: ROWS),
    "ordered": (AutoencoderTransformer(3, ordered=True, **QUICK), lambda: ROWS),
    "search": (LatentSizeCV(AutoencoderTransformer(**QUICK), (1, 2), cv=2), lambda: ROWS),
    "vae": (VAEGenerator(2, **QUICK), missing),
    "ordered_vae": (VAEGenerator(2, ordered=True, **QUICK), lambda: ROWS),
    "conditional_vae": (VAEGenerator(2, conditional=True, ordered=True, **QUICK), lambda: ROWS),
    "vae_with_mixture": (VAEGenerator(2, prior="mixture", **QUICK), lambda: ROWS),
    "mixed_columns": (VAEGenerator(2, likelihood="auto", **QUICK), mixed),
}


def dump_skops(model, path):
    skops.io.dump(model, path, compression=zipfile.ZIP_DEFLATED, compresslevel=9)


def dump_pickle(model, path):
    path.write_bytes(pickle.dumps(model))


def load_skops(path):
    return skops.io.load(path, trusted=skae.TRUSTED_TYPES)


def load_pickle(path):
    return pickle.loads(path.read_bytes())


FORMATS = {".skops": (dump_skops, load_skops), ".pickle": (dump_pickle, load_pickle)}


def results(model, X):
    """Return codes, and reconstructions of the columns of numbers."""
    codes = model.transform(X)
    back = pd.DataFrame(model.inverse_transform(codes)).select_dtypes("number")
    return {"codes": codes, "reconstructions": back.to_numpy(np.float64)}


def write(folder):
    """Write the files of all cases to a new folder, and their results to results.npz."""
    folder.mkdir(parents=True)
    found = {}
    for name, (estimator, samples) in CASES.items():
        X = samples()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = estimator.fit(X, SPECIES if name == "conditional_vae" else None)
        for suffix, (dump, _) in FORMATS.items():
            dump(model, folder / f"{name}{suffix}")
        found |= {f"{name}/{kind}": array for kind, array in results(model, X).items()}
    np.savez_compressed(folder / "results.npz", **found)


if __name__ == "__main__":
    shutil.rmtree(FOLDER / skae.__version__, ignore_errors=True)
    write(FOLDER / skae.__version__)
