"""
The textbook's deep generative model, made to generate
======================================================

Textbooks often follow the autoencoder by a deep generative model with the same encoder and decoder. A program that is
often printed draws 100 random codes, and fits the decoder with them as input and as target. It cannot run, since codes
have 32 columns and images 784. If it ran, it would train the network to copy noise, since it uses no image.

A decoder generates images if the training objective makes images probable. The encoder gives each image a distribution
over codes, q(z | x). Codes drawn from it should explain the image: log p(x | z) should be high. And the distribution
should be close to the standard normal from which new codes are drawn: KL(q || N(0, I)) should be low. The difference of
the two is the ELBO, a lower bound of log p(x). `VAEGenerator` maximises its mean, and `score` returns it. Here it has
the layers of the textbook.
"""

import gzip
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import fetch_openml, load_digits
from sklearn.model_selection import train_test_split
from torch import nn

from skae import SampleDisplay, VAEGenerator


def load_bits():
    """Return training and test images as flat rows of zeros and ones, their height and their name."""
    folder = Path("/usr/share/datasets/fashion-mnist")
    if folder.is_dir():
        with gzip.open(folder / "train-images-idx3-ubyte.gz") as file:
            X = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 784)
        X, height, name = X[:12000] / 255, 28, "Fashion-MNIST"
    else:
        try:
            X = fetch_openml("Fashion-MNIST", version=1, as_frame=False).data[:12000] / 255
            height, name = 28, "Fashion-MNIST"
        except OSError as error:
            print(f"Fashion-MNIST could not be loaded ({error}), so these are scikit-learn's digits.")
            X, height, name = load_digits().data / 16, 8, "digits"
    bits = (X > 0.5).astype(np.float32)
    return *train_test_split(bits, test_size=1 / 6, random_state=0), height, name


# %%
# The textbook's layers. The encoder maps 784 pixels to 32 relu units; skae adds linear layers for the mean and
# variance of the code. The decoder maps 32 components to 784 pixels, by a linear layer that skae adds; the Bernoulli
# likelihood applies the sigmoid. They are compared with skae's defaults, which start from a linear model.


def encoder(n_in, n_out):
    return nn.Sequential(nn.Linear(n_in, 32), nn.ReLU())


def decoder(n_in, n_out):
    return nn.Identity()


X_train, X_test, height, name = load_bits()
models = {
    "textbook's layers": VAEGenerator(
        32, likelihood="bernoulli", encoder=encoder, decoder=decoder, start="random", batch_size=256, max_iter=50,
        n_iter_no_change=50, random_state=0,
    ),
    "skae's defaults": VAEGenerator(16, likelihood="bernoulli", max_iter=25, random_state=0),
}  # fmt: skip
for label, model in models.items():
    began = time.perf_counter()
    model.fit(X_train)
    print(
        f"{name}, {label:18} held-out ELBO {model.score(X_test):7.1f} nats an image, "
        f"{model.active_components_.sum()} components in use, {time.perf_counter() - began:5.1f} s"
    )

# %%
# The ELBO of the validation set, and new images: decoded random codes, without noise. Where a curve falls, the
# network overfits. `fit` keeps the weights of the best epoch.

figure, axes = plt.subplots(1, 3, figsize=(12, 4), layout="constrained", width_ratios=[1.1, 1, 1])
for (label, model), style in zip(models.items(), ["-", "--"], strict=True):
    axes[0].plot(-np.array(model.validation_loss_curve_), style, color="black", label=label)
axes[0].set(xlabel="epoch", ylabel="held-out ELBO (nats an image)", title=name)
axes[0].legend(frameon=False)
for axis, (label, model) in zip(axes[1:], models.items(), strict=True):
    look = {"noise": False, "random_state": 0, "image_shape": (height, height)}
    SampleDisplay.from_estimator(model, 64, ax=axis, **look)
    axis.set_title(f"new images, {label}")
plt.show()
