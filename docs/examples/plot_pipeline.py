"""
In a Pipeline, before a classifier
==================================

The autoencoder replaces `PCA` in a `Pipeline`. A code with less reconstruction error does not always classify better.
So this example measures the accuracy of a logistic regression on codes of 2, 4 and 8 components, by three-fold
cross-validation.
"""

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderTransformer

X, y = load_digits(return_X_y=True)
sizes = (2, 4, 8)


def pipeline(reduce):
    """A second scaler, since the regression's penalty takes codes of equal spread for granted."""
    return make_pipeline(reduce, StandardScaler(), LogisticRegression(max_iter=1000))


# %%
# As everything in a Pipeline, the autoencoder is fitted to the training part of each fold.

accuracy = {"PCA": [], "autoencoder": []}
for size in sizes:
    reducers = {"PCA": PCA(size), "autoencoder": AutoencoderTransformer(size, max_iter=30, random_state=0)}
    for label, reduce in reducers.items():
        accuracy[label].append(cross_val_score(pipeline(reduce), X, y, cv=3))
        print(f"{size:2} numbers, {label:12} accuracy {accuracy[label][-1].mean():.3f}")

# %%
# Few components gain most. With many there is little left to gain, and PCA takes milliseconds.

figure, axis = plt.subplots(figsize=(6, 4), layout="constrained")
for (label, folds), style in zip(accuracy.items(), ["o--", "s-"], strict=True):
    axis.errorbar(sizes, [f.mean() for f in folds], [f.std() for f in folds], fmt=style, capsize=3, label=label)
axis.set(xscale="log", xticks=sizes, xticklabels=sizes, xlabel="numbers in the code", ylabel="accuracy on new digits")
axis.minorticks_off()
axis.legend(frameon=False)
plt.show()
