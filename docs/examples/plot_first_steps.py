"""
First steps: two numbers a row
==============================

An `AutoencoderTransformer` is fitted, transforms and comes back as `PCA` does. Here both give each of the digits,
images of 8 by 8 pixels, two numbers, and are asked how much of images that they have not seen these two numbers keep.
"""

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.model_selection import train_test_split

from skae import AutoencoderTransformer, LatentSpaceDisplay, reconstruction_error

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)

pca = PCA(2).fit(X_train)
autoencoder = AutoencoderTransformer(2, random_state=0).fit(X_train)

# %%
# The error is the mean squared difference of a pixel, in squared grey levels from 0 to 16.

errors = {model: reconstruction_error(model, X_test) for model in (pca, autoencoder)}
for model, error in errors.items():
    print(f"{type(model).__name__:22} held-out error {error:5.2f}")

# %%
# What training gained, the model says itself: both losses are of rows that were held out inside `fit`.

print(f"PCA's loss {autoencoder.linear_loss_:.2f}, the autoencoder's {autoencoder.best_loss_:.2f}")

# %%
# Held-out digits by their two numbers, coloured by what they are.

figure, axes = plt.subplots(1, 2, figsize=(11, 4.8), layout="constrained")
for axis, (model, error) in zip(axes, errors.items(), strict=True):
    LatentSpaceDisplay.from_estimator(model, X_test, y_test, ax=axis)
    axis.set_title(f"{type(model).__name__}: error {error:.1f}")
axes[0].get_legend().remove()
plt.show()
