"""
One grid over PCA and autoencoder
=================================

Both estimators have ``n_components``, so one grid search can choose the estimator and the number of components. If no
predictor follows in the Pipeline, use ``scoring=reconstruction_scorer``. The methods `score` of the two cannot be
compared: PCA's is a log-density, the autoencoder's an R^2.
"""

import matplotlib.pyplot as plt
import pandas as pd
from sklearn.datasets import load_breast_cancer
from sklearn.decomposition import PCA
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderTransformer, reconstruction_scorer

X, _ = load_breast_cancer(return_X_y=True)
X = StandardScaler().fit_transform(X)  # before the search: an error in units of X needs the same X everywhere

# %%
# Two estimators, five numbers of components and three folds make thirty fits. If training gains nothing on the
# validation set, a fit keeps PCA and warns. The largest number of components nearly always reconstructs best. The
# table shows how much further components gain.

grid = {
    "reduce": [PCA(), AutoencoderTransformer(max_iter=100, random_state=0)],
    "reduce__n_components": [1, 2, 4, 8, 16],
}
search = GridSearchCV(Pipeline([("reduce", PCA())]), grid, scoring=reconstruction_scorer, cv=3).fit(X)
table = pd.DataFrame(
    {
        "reducer": [type(p["reduce"]).__name__ for p in search.cv_results_["params"]],
        "components": [p["reduce__n_components"] for p in search.cv_results_["params"]],
        "error": -search.cv_results_["mean_test_score"],
    }
).pivot(index="components", columns="reducer", values="error")
print(table.round(4).to_string())
best = search.best_params_
print(f"\nbest: {type(best['reduce']).__name__} with {best['reduce__n_components']} components")

# %%
# The standardised columns have variance 1, so the error without any component is 1.

figure, axis = plt.subplots(figsize=(6, 4), layout="constrained")
table[["PCA", "AutoencoderTransformer"]].plot(ax=axis, style=["o--", "s-"], logx=True, logy=True)
axis.set(xticks=table.index, xticklabels=table.index, ylabel="held-out error", title="breast cancer, 30 columns")
axis.minorticks_off()
axis.legend(frameon=False)
plt.show()
