"""
Log-densities, compared with a Gaussian mixture's
=================================================

`VAEGenerator.score` is a mean log-density, in nats a sample, in units of X. So are the scores of PCA, factor
analysis, Gaussian mixtures and kernel densities: on the same held-out samples they can be compared. On a table of two
columns the best mixture is about as good as the VAE. On one of thirty columns the VAE has the higher log-density.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_breast_cancer, make_moons
from sklearn.decomposition import FactorAnalysis
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from skae import VAEGenerator


def scores(X, n_components):
    """Return the score of each model on held-out samples, and the models; the mixture is the best of ten on these."""
    train, test = train_test_split(X, random_state=0)
    mixtures = [GaussianMixture(k, reg_covar=1e-4, random_state=0).fit(train) for k in range(1, 11)]
    models = {
        "factor analysis": FactorAnalysis(n_components).fit(train),
        "best of ten mixtures": max(mixtures, key=lambda mixture: mixture.score(test)),
        "VAE": VAEGenerator(n_components, random_state=0).fit(train),
    }
    found = {label: model.score(test) for label, model in models.items()}
    found["VAE, log_likelihood"] = models["VAE"].log_likelihood(test).mean()
    return found, models


moons, _ = make_moons(1500, noise=0.1, random_state=0)
tumours = StandardScaler().fit_transform(load_breast_cancer().data)
for name, X, n_components in (("tumours, 30 columns", tumours, 8), ("moons, 2 columns", moons, 2)):
    found, models = scores(X, n_components)
    print(name)
    for label, value in found.items():
        print(f"  {label:22} {value:7.2f} nats a sample")

# %%
# The `score` of the VAE is a lower bound of the log-density. `log_likelihood` is a tighter bound, by importance
# weighting. It draws this map of the density of the moons.

grid = np.stack(np.meshgrid(np.linspace(-1.6, 2.6, 80), np.linspace(-1.1, 1.6, 60)), axis=-1)
points = grid.reshape(-1, 2)
figure, axes = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained", sharey=True)
maps = {
    "best of ten mixtures": models["best of ten mixtures"].score_samples(points),
    "VAE": models["VAE"].log_likelihood(points),
}
for axis, (label, values) in zip(axes, maps.items(), strict=True):
    image = axis.contourf(*np.moveaxis(grid, -1, 0), np.exp(values).reshape(grid.shape[:2]), levels=12, cmap="cividis")
    axis.scatter(*moons[:200].T, s=3, color="white", alpha=0.6)
    axis.set(title=label, aspect="equal")
figure.colorbar(image, ax=axes, label="density")
plt.show()
