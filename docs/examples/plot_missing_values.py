"""
Missing values
==============

Samples may have missing values, as nan, in `fit` and in all other methods. `impute` replaces them by what the rest of
the sample predicts. `VAEGenerator` can draw several imputations, whose spread shows how uncertain they are.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.impute import KNNImputer, SimpleImputer
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderTransformer, VAEGenerator

data = load_breast_cancer()
X = StandardScaler().fit_transform(data.data)
rng = np.random.RandomState(0)
hidden = rng.uniform(size=X.shape) < 0.2
gaps = np.where(hidden, np.nan, X)

# %%
# A fifth of all entries is hidden, and known here, so that errors can be measured. They are in standard deviations of
# a column.

vae = VAEGenerator(8, random_state=0).fit(gaps)
autoencoder = AutoencoderTransformer(4, random_state=0).fit(gaps)
filled = {
    "column's mean": SimpleImputer().fit_transform(gaps),
    "five neighbours": KNNImputer().fit_transform(gaps),
    "autoencoder": autoencoder.impute(gaps),
    "VAE": vae.impute(gaps),
}
for label, rows in filled.items():
    print(f"{label:16} error {np.sqrt(np.mean((rows - X)[hidden] ** 2)):.3f}")

# %%
# Fifty imputations of each missing value. If the spread were right, nine of ten hidden values would lie between the 5
# % and the 95 % quantile. It is somewhat too small: the uncertainty of the network itself is not included.

draws = np.stack(vae.impute(gaps, n_draws=50, random_state=0))[:, hidden]
low, high = np.quantile(draws, [0.05, 0.95], axis=0)
truth = X[hidden]
inside = (truth >= low) & (truth <= high)
print(f"\n{inside.mean():.0%} of hidden values lie within nine tenths of their draws")

shown = rng.choice(len(truth), 60, replace=False)
shown = shown[np.argsort(truth[shown])]
figure, axis = plt.subplots(figsize=(9, 4), layout="constrained")
axis.vlines(range(60), low[shown], high[shown], color="0.7", linewidth=4, label="nine tenths of draws")
axis.plot(filled["VAE"][hidden][shown], "_", color="C0", markersize=8, label="mean imputation")
axis.plot(truth[shown], ".", color="black", label="hidden value")
axis.set(xlabel="sixty missing values, sorted", ylabel="standard deviations", xticks=[])
axis.legend(frameon=False)
plt.show()
