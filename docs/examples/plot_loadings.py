"""
What a component is made of
===========================

A component of PCA has one loading for each column. A component of an autoencoder is curved: its loadings differ between
samples. Bars show the mean of a loading, lines its standard deviation over the samples, which is 0 for PCA.
"""

import matplotlib.pyplot as plt
from sklearn.datasets import load_wine
from sklearn.decomposition import PCA
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderTransformer, LoadingsDisplay, component_importance, reconstruction_error

X = StandardScaler().set_output(transform="pandas").fit_transform(load_wine(as_frame=True).data)
X_train, X_test = train_test_split(X, random_state=0)

models = {"PCA": PCA(2), "AutoencoderTransformer": AutoencoderTransformer(2, ordered=True, random_state=0)}
for name, model in models.items():
    display = LoadingsDisplay.from_estimator(model.fit(X_train), X_test, kind="bar")
    display.figure_.suptitle(f"{name}, held-out error {reconstruction_error(model, X_test):.2f}")
plt.show()

# %%
# `component_importance` is the share of each column's variance that is lost without a component.

for name, model in models.items():
    first, second = component_importance(model, X_test).round(2)
    print(f"{name}: colour intensity {first[9]} and {second[9]}, flavanoids {first[6]} and {second[6]}")

# %%
# `local_components` are the loadings at each sample.

local = models["AutoencoderTransformer"].local_components(X_test)
for i in range(3):
    largest = abs(local[i, 0]).argmax()
    print(f"sample {i}: component 1 changes {X.columns[largest]} most, by {local[i, 0, largest]:.2f}")
