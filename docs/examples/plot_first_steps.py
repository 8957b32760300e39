"""
First steps: two components
===========================

`AutoencoderTransformer` has the methods of `PCA`: `fit`, `transform`, `inverse_transform`. Here both reduce digits,
images of 8 by 8 pixels, to two components. The example compares how well they reconstruct held-out images.
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
# The error is the mean squared error of a pixel. Grey levels go from 0 to 16.

errors = {model: reconstruction_error(model, X_test) for model in (pca, autoencoder)}
for model, error in errors.items():
    print(f"{type(model).__name__:22} held-out error {error:5.2f}")

# %%
# The fitted autoencoder records what training gained over PCA. Both losses are those of the validation set, which
# `fit` splits off.

print(f"PCA's loss {autoencoder.linear_loss_:.2f}, the autoencoder's {autoencoder.best_loss_:.2f}")

# %%
# Codes of held-out digits, coloured by class.

figure, axes = plt.subplots(1, 2, figsize=(11, 4.8), layout="constrained")
for axis, (model, error) in zip(axes, errors.items(), strict=True):
    LatentSpaceDisplay.from_estimator(model, X_test, y_test, ax=axis)
    axis.set_title(f"{type(model).__name__}: error {error:.1f}")
axes[0].get_legend().remove()
plt.show()
