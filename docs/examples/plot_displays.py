"""
Looking into a fit: losses, codes, reconstructions, walks
=========================================================

Four displays, in the manner of scikit-learn's, of one autoencoder: how training went, where rows lie, what is kept of
them, and what a component means. Each is one call, draws into the axes it is given, and keeps what it has drawn as
attributes. (`SampleDisplay` draws new rows, `LatentSizeDisplay` the error at each number of components; they have pages
of their own.)
"""

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from skae import (
    AutoencoderTransformer,
    LatentSpaceDisplay,
    LatentTraversalDisplay,
    LossCurveDisplay,
    ReconstructionDisplay,
)

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)

# %%
# With ``ordered=True`` the first two of the eight numbers are the best two, and worth a picture.

autoencoder = AutoencoderTransformer(8, ordered=True, feature_shape=(1, 8, 8), random_state=0).fit(X_train)

# %%
# The loss of an ordered fit is relative to PCA's, so that the start has 1. Reconstructions are of digits that it has
# not seen, with their mean squared errors; PCA's have as many components. A walk leads along one component, the others
# at their median: the titles are codes.

figure, axes = plt.subplots(2, 2, figsize=(14, 8.5), layout="constrained", width_ratios=[1, 1.4])
losses = LossCurveDisplay.from_estimator(autoencoder, ax=axes[0, 0])
LatentSpaceDisplay.from_estimator(autoencoder.truncate(2), X_test, y_test, ax=axes[1, 0])
reconstructions = ReconstructionDisplay.from_estimator(autoencoder, X_test, X_train=X_train, ax=axes[0, 1])
LatentTraversalDisplay.from_estimator(autoencoder, X_test, ax=axes[1, 1])
print(f"best epoch {losses.best_epoch} of {autoencoder.n_iter_}")
print(f"errors {reconstructions.errors.round(2)}")
print(f" PCA's {reconstructions.pca_errors.round(2)}")
plt.show()
