"""
Your own layers
===============

``encoder`` and ``decoder`` take any function that builds a torch module for so many columns in and out. With
``start="pca"`` the module is what training adds to PCA; with ``start="random"`` it is the whole network. Here the
same layers are trained both ways on digits, for 30 epochs, and compared with skae's own.
"""

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.model_selection import train_test_split
from torch import nn

from skae import AutoencoderTransformer, reconstruction_error

X_train, X_test = train_test_split(load_digits().data / 16, random_state=0)


def layers(n_in, n_out):
    return nn.Sequential(nn.Linear(n_in, 64), nn.ReLU(), nn.Linear(64, n_out))


# %%
# To pickle what is fitted with them, define modules at the top of a file.

own = {"encoder": layers, "decoder": layers, "max_iter": 30, "random_state": 0}
models = {
    "own layers, random start": AutoencoderTransformer(8, start="random", **own),
    "own layers, from PCA on": AutoencoderTransformer(8, **own),
    "skae's layers": AutoencoderTransformer(8, max_iter=30, random_state=0),
}
line = reconstruction_error(PCA(8).fit(X_train), X_test)
print(f"{'PCA':26} held-out error {line:.4f}")
errors = {label: reconstruction_error(model.fit(X_train), X_test) for label, model in models.items()}
for label, error in errors.items():
    print(f"{label:26} held-out error {error:.4f} after {models[label].n_iter_} epochs")

# %%
# The validation loss. From PCA on it begins at PCA's and falls from there. A random start needs more than half of the
# epochs to reach PCA.

figure, axis = plt.subplots(figsize=(7, 4), layout="constrained")
for (label, model), style in zip(models.items(), [":", "--", "-"], strict=True):
    axis.plot(model.validation_loss_curve_, style, label=f"{label}: {errors[label]:.3f}")
axis.axhline(models["skae's layers"].linear_loss_, color="0.6", linewidth=1, label=f"PCA: {line:.3f}")
axis.set(xlabel="epoch", ylabel="loss of the validation set", yscale="log", title="digits, 8 components")
axis.legend(frameon=False, title="error of test samples")
plt.show()
