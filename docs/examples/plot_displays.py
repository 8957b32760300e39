"""
Figures of a fit: losses, codes, reconstructions, traversals
============================================================

Four displays of one autoencoder, in the style of scikit-learn's: losses of training, codes, reconstructions, and the
effect of each component. One call of `from_estimator` draws a display into the axes that it gets. Its artists are
attributes. Two more displays have examples of their own: `SampleDisplay` draws new samples, and `LatentSizeDisplay` the
error at each number of components.
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
# With ``ordered=True`` the first two of the eight components are the best two, which the scatter plot shows.

autoencoder = AutoencoderTransformer(8, ordered=True, feature_shape=(1, 8, 8), random_state=0).fit(X_train)

# %%
# The loss of an ordered fit is relative to PCA's, so the start has a loss of 1. Reconstructions are those of held-out
# digits, by the autoencoder and by PCA with as many components. Their titles are mean squared errors. Each line of
# the last display varies one component, with the others at their median. Its titles are the values of the component.

figure, axes = plt.subplots(2, 2, figsize=(14, 8.5), layout="constrained", width_ratios=[1, 1.4])
losses = LossCurveDisplay.from_estimator(autoencoder, ax=axes[0, 0])
LatentSpaceDisplay.from_estimator(autoencoder.truncate(2), X_test, y_test, ax=axes[1, 0])
reconstructions = ReconstructionDisplay.from_estimator(autoencoder, X_test, X_train=X_train, ax=axes[0, 1])
LatentTraversalDisplay.from_estimator(autoencoder, X_test, ax=axes[1, 1])
print(f"best epoch {losses.best_epoch} of {autoencoder.n_iter_}")
print(f"errors {reconstructions.errors.round(2)}")
print(f" PCA's {reconstructions.pca_errors.round(2)}")
plt.show()
