"""
Anomalies: samples unlike the rest
==================================

`score_samples` is high for samples like the training samples and low for samples unlike them. The autoencoder's score
is minus the reconstruction error of a sample, that of `VAEGenerator` its log-density. Both are fitted to benign
tumours only. They are ranked by how well they detect malignant ones, together with two of scikit-learn's detectors.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.metrics import RocCurveDisplay, roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderTransformer, VAEGenerator

X, y = load_breast_cancer(return_X_y=True)
benign, malignant = X[y == 1], X[y == 0]
train, test = train_test_split(benign, test_size=0.3, random_state=0)
scaler = StandardScaler().fit(train)
rows = scaler.transform([*test, *malignant])
unusual = [0] * len(test) + [1] * len(malignant)

# %%
# All have `score_samples`, and higher is more usual. A density counts how unusual a sample is in every direction. A
# reconstruction error counts only what lies off the curved surface, and misses a tumour that is large along it. So
# use the VAE here.

detectors = {
    "PCA's density": PCA(4),
    "isolation forest": IsolationForest(random_state=0),
    "autoencoder": AutoencoderTransformer(4, random_state=0),
    "VAE": VAEGenerator(4, random_state=0),
}
figure, axis = plt.subplots(figsize=(5.6, 5), layout="constrained")
for (label, detector), style in zip(detectors.items(), [":", "-.", "--", "-"], strict=True):
    scores = -detector.fit(scaler.transform(train)).score_samples(rows)
    print(f"{label:18} area under the curve {roc_auc_score(unusual, scores):.3f}")
    RocCurveDisplay.from_predictions(unusual, scores, name=label, ax=axis, curve_kwargs={"linestyle": style})
axis.set(
    title="malignant tumours detected by models of benign ones",
    xlabel="benign called unusual",
    ylabel="malignant called unusual",
)
plt.show()

# %%
# A threshold depends on what an alarm costs. The 5 % quantile of the scores of usual samples is a threshold for about
# one false alarm in twenty, if these samples were not in `fit`. Half of the benign test samples give it here, and the
# other half show the rate. They are 54 each, so the rate may well be 0.15.

vae = detectors["VAE"]
scores = vae.score_samples(rows)
calibration, fresh = np.array_split(np.arange(len(test)), 2)
threshold = np.quantile(scores[calibration], 0.05)
alarms = scores < threshold
print(f"alarms: {alarms[fresh].mean():.2f} of benign, {alarms[len(test) :].mean():.2f} of malignant tumours")

# %%
# Which columns make a tumour unusual? `score_features` has the log-density of each value given the others of its
# sample, in nats. Columns have thresholds of their own, found in the same way.

names = load_breast_cancer().feature_names
of_columns = vae.score_features(rows)
limits = np.quantile(of_columns[calibration], 0.01, axis=0)
parts = {"benign": of_columns[fresh], "malignant": of_columns[len(test) :]}
shares = {label: (part < limits).mean(axis=0) for label, part in parts.items()}
order = shares["malignant"].argsort()[-10:]
figure, axis = plt.subplots(figsize=(6, 4), layout="constrained")
for offset, (label, share) in zip((-0.2, 0.2), shares.items(), strict=True):
    axis.barh(np.arange(10) + offset, share[order], 0.4, label=label)
axis.set_yticks(range(10), names[order])
axis.set(xlabel="share of tumours below the threshold of the column")
axis.legend(frameon=False)
plt.show()
