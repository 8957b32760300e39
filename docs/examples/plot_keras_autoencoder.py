"""
The textbook autoencoder, rebuilt
=================================

The first autoencoder of most textbooks is written in Keras: 784 pixels, 32 relu units, 784 sigmoid units. It is
trained by Adam on the squared error for 50 epochs in batches of 256, with a validation set. Here it is rebuilt layer
by layer and compared with skae's defaults and PCA, all with 32 components.

The images are those of Fashion-MNIST, from Debian's package dataset-fashion-mnist or from OpenML. Without either they
are the 8 x 8 digits of scikit-learn.
"""

import gzip
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import fetch_openml, load_digits
from sklearn.decomposition import PCA
from sklearn.model_selection import train_test_split
from torch import nn

from skae import AutoencoderTransformer, reconstruction_error


def load_images():
    """Return training and test images as flat rows in [0, 1], their height and their name."""
    folder = Path("/usr/share/datasets/fashion-mnist")
    if folder.is_dir():
        parts = []
        for part in ("train", "t10k"):
            with gzip.open(folder / f"{part}-images-idx3-ubyte.gz") as file:
                parts.append(np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 784).astype(np.float32) / 255)
        return *parts, 28, "Fashion-MNIST"
    try:
        X = fetch_openml("Fashion-MNIST", version=1, as_frame=False).data.astype(np.float32) / 255
        return X[:60000], X[60000:], 28, "Fashion-MNIST"
    except OSError as error:
        print(f"Fashion-MNIST could not be loaded ({error}), so these are scikit-learn's digits.")
        X = load_digits().data.astype(np.float32) / 16
        return *train_test_split(X, random_state=0), 8, "digits"


# %%
# The layers. Keras draws initial weights from a uniform distribution (Glorot) and sets biases to zero. torch has
# another initialisation, so these functions repeat that of Keras.


def glorot(layer):
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def encoder(n_in, n_out):
    return nn.Sequential(glorot(nn.Linear(n_in, n_out)), nn.ReLU())


def decoder(n_in, n_out):
    return nn.Sequential(glorot(nn.Linear(n_in, n_out)), nn.Sigmoid())


# %%
# Three models of 32 components. Both autoencoders have the same validation set. Keras only reports its loss; skae
# keeps the weights of the epoch with the lowest one. skae's Adam has a one-cycle schedule, Keras' a constant learning
# rate. To keep this example short, both are trained on 10,000 images at most. The error is that of held-out images.

X, X_test, height, name = load_images()
X_train, X_val = train_test_split(X[:12000], test_size=1 / 6, random_state=0)
models = {
    "PCA": PCA(32),
    "textbook": AutoencoderTransformer(
        32,
        encoder=encoder,
        decoder=decoder,
        start="random",
        batch_size=256,
        max_iter=50,
        n_iter_no_change=50,
        random_state=0,
    ),
    "skae's defaults": AutoencoderTransformer(32, max_iter=30, random_state=0),
}
errors = {}
for label, model in models.items():
    began = time.perf_counter()
    if isinstance(model, AutoencoderTransformer):
        model.fit(X_train, X_val=X_val)
    else:
        model.fit(X_train)
    errors[label] = reconstruction_error(model, X_test)
    print(f"{name}, {label:16} held-out error {errors[label]:.4f}  {time.perf_counter() - began:5.1f} s")

# %%
# Reconstructions of the same ten images.

rows = {name: X_test[:10]} | {
    f"{label}\n{errors[label]:.4f}": model.inverse_transform(model.transform(X_test[:10]))
    for label, model in models.items()
}
figure, axes = plt.subplots(len(rows), 10, figsize=(10, 4.6), layout="constrained")
for line, (label, images) in zip(axes, rows.items(), strict=True):
    for axis, image in zip(line, images, strict=True):
        axis.imshow(image.reshape(height, -1), cmap="gray", vmin=0, vmax=1)
        axis.set(xticks=[], yticks=[])
    line[0].set_ylabel(label, rotation=0, ha="right", va="center")
figure.suptitle("held-out images and their reconstructions from 32 components, with mean squared errors")
plt.show()
