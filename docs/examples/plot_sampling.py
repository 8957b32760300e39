"""
New samples
===========

`sample` draws new samples from both estimators. A VAE is trained as a density to draw from. An autoencoder decodes
draws from a Gaussian mixture that is fitted to its codes. A random forest is then trained to distinguish new samples
from real ones. An accuracy of 50 % means that it cannot.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import cross_val_score, train_test_split

from skae import AutoencoderTransformer, SampleDisplay, VAEGenerator

X_train, X_test = train_test_split(load_digits().data, random_state=0)

# %%
# ``max_iter=0`` is factor analysis, the linear model from which training starts. ``prior="mixture"`` is for samples
# that form groups, as ten kinds of digits do.

models = {
    "factor analysis": VAEGenerator(8, max_iter=0),
    "VAE": VAEGenerator(8, max_iter=50, random_state=0),
    "VAE, mixture of codes": VAEGenerator(8, prior="mixture", max_iter=50, random_state=0),
    "autoencoder, mixture of codes": AutoencoderTransformer(8, max_iter=50, random_state=0),
}
drawn = {"real": X_test}
for label, model in models.items():
    rows = model.fit(X_train).sample(len(X_test), random_state=0)
    drawn[label] = np.clip(np.round(rows), 0, 16)  # grey levels are whole numbers from 0 to 16

# %%
# The forest is cross-validated on as many new samples as held-out real ones.

accuracy = {}
for label in models:
    both = np.concatenate([drawn["real"], drawn[label]])
    is_drawn = np.repeat([0, 1], len(X_test))
    accuracy[label] = cross_val_score(RandomForestClassifier(50, random_state=0), both, is_drawn, cv=3).mean()
    print(f"{label:30} distinguished from real ones in {accuracy[label]:.0%} of cases")

# %%
# The first 16 samples of each. New samples of the VAE have the noise of the likelihood; those of the autoencoder have
# none.

figure, axes = plt.subplots(len(drawn), 1, figsize=(8, 11), layout="constrained")
for axis, (label, rows) in zip(axes, drawn.items(), strict=True):
    SampleDisplay.from_predictions(rows[:16], image_shape=(8, 8), ax=axis)
    axis.set_title(label + (f": distinguished in {accuracy[label]:.0%}" if label in accuracy else ""))
plt.show()
