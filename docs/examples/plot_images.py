"""
Images: reconstructions, new images, interpolation, outliers
============================================================

``feature_shape`` says that samples are images. They stay flat rows, as in scikit-learn, and the network that starts
at PCA becomes convolutional. The example uses one fit for four things: reconstructions from 16 components, compared
with PCA's; new images; interpolation along the straight line between two codes; and the test images least like the
training images, by ``score_samples``.
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
    """Flat rows in [0, 1] for training and testing, with the height of an image and the name of the set."""
    file = Path("/usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz")  # package dataset-fashion-mnist
    if file.exists():
        with gzip.open(file) as opened:
            X = np.frombuffer(opened.read(), np.uint8, offset=16).reshape(-1, 784)
        X, height, name = X[:12000].astype(np.float32) / 255, 28, "Fashion-MNIST"
    else:
        X, height, name = load_digits().data.astype(np.float32) / 16, 8, "digits"
    return *train_test_split(X, test_size=1 / 6, random_state=0), height, name


# %%
# One fit, and PCA with as many components.

X_train, X_test, height, name = load_images()
pca = PCA(16).fit(X_train)
autoencoder = AutoencoderTransformer(16, feature_shape=(1, height, height), max_iter=15, random_state=0).fit(X_train)
for model in (pca, autoencoder):
    print(f"{name}, {type(model).__name__:22} held-out error {reconstruction_error(model, X_test):.4f}")

# %%
# Interpolation: the code of one test image, the code of another, and six equal steps between. The images that 16
# components describe worst have the lowest scores.

Z = autoencoder.transform(X_test[:8])
steps = np.linspace(0, 1, 8)[:, None]
walks = np.vstack([autoencoder.inverse_transform((1 - steps) * Z[i] + steps * Z[i + 1]) for i in (0, 2, 4)])
odd = X_test[np.argsort(autoencoder.score_samples(X_test))[:24]]

panels = {
    "test images, the autoencoder's, PCA's": np.vstack([
        X_test[:8], autoencoder.inverse_transform(Z), pca.inverse_transform(pca.transform(X_test[:8])),
    ]),
    "new images": autoencoder.sample(24, random_state=0),
    "walks between two codes": walks,
    "least like the training images": odd,
}  # fmt: skip
figure, axes = plt.subplots(2, 2, figsize=(11, 5), layout="constrained")
for axis, (title, rows) in zip(axes.flat, panels.items(), strict=True):
    grid = rows.reshape(3, 8, height, height).swapaxes(1, 2).reshape(3 * height, 8 * height)
    axis.imshow(grid, cmap="gray", vmin=0, vmax=1)
    axis.set(title=title, xticks=[], yticks=[])
plt.show()
