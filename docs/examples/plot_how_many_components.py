"""
How many components?
====================

The components of PCA are ordered, so one fit has the result for every number of components. With ``ordered=True`` the
same is true of an autoencoder: `truncate` returns one with fewer components. The figure shows the error on held-out
digits.
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

# The share of the variance that the first components explain, on the validation set.
explained = autoencoder.explained_variance_ratio_.cumsum()
for size in (1, 2, 4, 8, 16, 32):
    print(f"{size:2} components explain {explained[size - 1]:.3f}")

plt.show()
