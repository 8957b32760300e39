"""
Denoising
=========

With ``noise``, noise is added to the input of the network in training, but not to the target. The autoencoder learns to
map noisy samples to clean ones. The baseline is PCA, which also removes noise: that outside of the principal
components.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.model_selection import train_test_split

from skae import AutoencoderTransformer

X_train, X_test = train_test_split(load_digits().data, random_state=0)
noisy = X_test + np.random.RandomState(0).normal(scale=4, size=X_test.shape)  # grey levels go from 0 to 16

# %%
# ``noise`` is in standard deviations of each column, which are between 0 and 6.5 grey levels here. More than 12
# components would reconstruct more of the noise, too.

models = {
    "PCA": PCA(12),
    "autoencoder": AutoencoderTransformer(12, max_iter=60, random_state=0),
    "autoencoder, noise=0.7": AutoencoderTransformer(12, noise=0.7, max_iter=60, random_state=0),
}
images = {"clean": X_test, "noisy": noisy}
for label, model in models.items():
    images[label] = model.fit(X_train).inverse_transform(model.transform(noisy))
errors = {label: np.mean((rows - X_test) ** 2) for label, rows in images.items()}
for label, error in errors.items():
    print(f"{label:26} error {error:5.2f}")

# %%
# Without ``noise``, `transform` refines the encoder's code until the decoded image is closest to the noisy one, noise
# included. With ``noise`` the code is the encoder's, without refinement.

figure, axes = plt.subplots(len(images), 12, figsize=(10, 4.6), layout="constrained")
for line, (label, rows) in zip(axes, images.items(), strict=True):
    for axis, row in zip(line, rows, strict=False):
        axis.imshow(row.reshape(8, 8), cmap="gray_r", vmin=0, vmax=16)
        axis.set(xticks=[], yticks=[])
    line[0].set_ylabel(f"{label}\n{errors[label]:.1f}", rotation=0, ha="right", va="center")
plt.show()
