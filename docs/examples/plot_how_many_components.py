"""
How many components?
====================

One fit of PCA serves all sizes, since its components are ordered. So does one fit of an autoencoder with
``ordered=True``: `truncate` returns the autoencoder of a size. The figure shows the error on held-out digits.
"""

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from skae import AutoencoderTransformer, LatentSizeDisplay

X, _ = load_digits(return_X_y=True)
X_train, X_test = train_test_split(X, random_state=0)

autoencoder = AutoencoderTransformer(32, ordered=True, random_state=0).fit(X_train)
display = LatentSizeDisplay.from_estimator(autoencoder, X_test, X_train=X_train)
display.ax_.set_title("digits: one ordered fit, every number of components")

# What each component adds to the share of the variance that is explained, on the validation set.
explained = autoencoder.explained_variance_ratio_.cumsum()
for size in (1, 2, 4, 8, 16, 32):
    print(f"{size:2} components explain {explained[size - 1]:.3f}")

plt.show()
