"""
Your own layers
===============

``encoder`` and ``decoder`` take functions that build a torch module from its numbers of input and output columns. With
``start="pca"`` the module is a correction that is added to PCA; with ``start="random"`` it is the whole network. Here
the same layers are trained both ways on digits, for 30 epochs, and compared with skae's own.
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
# Define the function at the top level of a file, so that the fitted estimator can be pickled.

own = {"encoder": layers, "decoder": layers, "max_iter": 30, "random_state": 0}
models = {
    "own layers, random start": AutoencoderTransformer(8, start="random", **own),
    "own layers, start at PCA": AutoencoderTransformer(8, **own),
    "skae's layers": AutoencoderTransformer(8, max_iter=30, random_state=0),
}
line = reconstruction_error(PCA(8).fit(X_train), X_test)
print(f"{'PCA':26} held-out error {line:.4f}")
errors = {label: reconstruction_error(model.fit(X_train), X_test) for label, model in models.items()}
for label, error in errors.items():
    print(f"{label:26} held-out error {error:.4f} after {models[label].n_iter_} epochs")

# %%
# The validation loss. With ``start="pca"`` it begins at PCA's loss. With a random start it reaches that only after
# more than half of the epochs.

figure, axis = plt.subplots(figsize=(7, 4), layout="constrained")
for (label, model), style in zip(models.items(), [":", "--", "-"], strict=True):
    axis.plot(model.validation_loss_curve_, style, label=f"{label}: {errors[label]:.3f}")
axis.axhline(models["skae's layers"].linear_loss_, color="0.6", linewidth=1, label=f"PCA: {line:.3f}")
axis.set(xlabel="epoch", ylabel="validation loss", yscale="log", title="digits, 8 components")
axis.legend(frameon=False, title="error of test samples")
plt.show()
