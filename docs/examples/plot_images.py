"""
Images: reconstructions, new images, interpolation, outliers
============================================================

``feature_shape`` is the shape of samples that are flattened images. The network, which starts as PCA, is then
convolutional. One fit has four uses here:

- reconstructions from 16 components, compared with PCA's
- new images
- interpolation along the straight line between two codes
- outliers: the test images with the lowest ``score_samples``
"""

import gzip
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.model_selection import train_test_split

from skae import AutoencoderTransformer, reconstruction_error


def load_images():
    """Return training and test images as flat rows in [0, 1], their height and their name."""
    file = Path("/usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz")  # package dataset-fashion-mnist
    if file.exists():
        with gzip.open(file) as opened:
            X = np.frombuffer(opened.read(), np.uint8, offset=16).reshape(-1, 784)
        X, height, name = X[:12000].astype(np.float32) / 255, 28, "Fashion-MNIST"
    else:
        X, height, name = load_digits().data.astype(np.float32) / 16, 8, "digits"
    return *train_test_split(X, test_size=1 / 6, random_state=0), height, name


# %%
# An autoencoder, and PCA with as many components.

X_train, X_test, height, name = load_images()
pca = PCA(16).fit(X_train)
autoencoder = AutoencoderTransformer(16, feature_shape=(1, height, height), max_iter=15, random_state=0).fit(X_train)
for model in (pca, autoencoder):
    print(f"{name}, {type(model).__name__:22} held-out error {reconstruction_error(model, X_test):.4f}")

# %%
# Interpolation: the codes of two test images, and six codes at equal steps between them. The outliers are the test
# images with the largest reconstruction errors.

Z = autoencoder.transform(X_test[:8])
steps = np.linspace(0, 1, 8)[:, None]
between = np.vstack([autoencoder.inverse_transform((1 - steps) * Z[i] + steps * Z[i + 1]) for i in (0, 2, 4)])
odd = X_test[np.argsort(autoencoder.score_samples(X_test))[:24]]

panels = {
    "test images, the autoencoder's, PCA's": np.vstack([
        X_test[:8], autoencoder.inverse_transform(Z), pca.inverse_transform(pca.transform(X_test[:8])),
    ]),
    "new images": autoencoder.sample(24, random_state=0),
    "interpolation between two codes": between,
    "least like the training images": odd,
}  # fmt: skip
figure, axes = plt.subplots(2, 2, figsize=(11, 5), layout="constrained")
for axis, (title, rows) in zip(axes.flat, panels.items(), strict=True):
    grid = rows.reshape(3, 8, height, height).swapaxes(1, 2).reshape(3 * height, 8 * height)
    axis.imshow(grid, cmap="gray", vmin=0, vmax=1)
    axis.set(title=title, xticks=[], yticks=[])
plt.show()
