"""
Missing values
==============

Samples may have missing values (nan) in `fit` and in all other methods. `impute` predicts them from the other values of
the sample. `VAEGenerator` can draw several imputations, whose spread shows their uncertainty.
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
incomplete = np.where(hidden, np.nan, X)

# %%
# A fifth of all entries is hidden. They are known here, so the error can be measured: the root mean square, in
# standard deviations of the columns.

vae = VAEGenerator(8, random_state=0).fit(incomplete)
autoencoder = AutoencoderTransformer(4, random_state=0).fit(incomplete)
filled = {
    "column's mean": SimpleImputer().fit_transform(incomplete),
    "five neighbours": KNNImputer().fit_transform(incomplete),
    "autoencoder": autoencoder.impute(incomplete),
    "VAE": vae.impute(incomplete),
}
for label, rows in filled.items():
    print(f"{label:16} error {np.sqrt(np.mean((rows - X)[hidden] ** 2)):.3f}")

# %%
# Fifty draws of each missing value. If their spread were right, 90 % of the hidden values would lie between their 5 %
# and 95 % quantiles. The spread is somewhat too small, since it does not include the uncertainty of the network
# itself.

draws = np.stack(vae.impute(incomplete, n_draws=50, random_state=0))[:, hidden]
low, high = np.quantile(draws, [0.05, 0.95], axis=0)
truth = X[hidden]
inside = (truth >= low) & (truth <= high)
print(f"\n{inside.mean():.0%} of hidden values lie between the 5 % and 95 % quantiles of their draws")

shown = rng.choice(len(truth), 60, replace=False)
shown = shown[np.argsort(truth[shown])]
figure, axis = plt.subplots(figsize=(9, 4), layout="constrained")
axis.vlines(range(60), low[shown], high[shown], color="0.7", linewidth=4, label="90 % of the draws")
axis.plot(filled["VAE"][hidden][shown], "_", color="C0", markersize=8, label="mean imputation")
axis.plot(truth[shown], ".", color="black", label="hidden value")
axis.set(xlabel="sixty missing values, sorted", ylabel="standard deviations", xticks=[])
axis.legend(frameon=False)
plt.show()
