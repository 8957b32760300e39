"""
In a Pipeline, before a classifier
==================================

The autoencoder replaces `PCA` in a `Pipeline`. Codes with less reconstruction error do not always lead to more accurate
classifiers. So this example measures the accuracy of a logistic regression on codes of 2, 4 and 8 components, by
three-fold cross-validation.
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
    """Return a Pipeline that scales codes, since the penalty of the regression depends on their scale."""
    return make_pipeline(reduce, StandardScaler(), LogisticRegression(max_iter=1000))


# %%
# As every step of a Pipeline, the autoencoder is fitted to the training part of each fold.

accuracy = {"PCA": [], "autoencoder": []}
for size in sizes:
    reducers = {"PCA": PCA(size), "autoencoder": AutoencoderTransformer(size, max_iter=30, random_state=0)}
    for label, reduce in reducers.items():
        accuracy[label].append(cross_val_score(pipeline(reduce), X, y, cv=3))
        print(f"{size:2} components, {label:12} accuracy {accuracy[label][-1].mean():.3f}")

# %%
# The gain is largest with few components. With eight it is small, and PCA takes milliseconds.

figure, axis = plt.subplots(figsize=(6, 4), layout="constrained")
for (label, folds), style in zip(accuracy.items(), ["o--", "s-"], strict=True):
    axis.errorbar(sizes, [f.mean() for f in folds], [f.std() for f in folds], fmt=style, capsize=3, label=label)
axis.set(xscale="log", xticks=sizes, xticklabels=sizes, xlabel="components", ylabel="accuracy on held-out digits")
axis.minorticks_off()
axis.legend(frameon=False)
plt.show()
