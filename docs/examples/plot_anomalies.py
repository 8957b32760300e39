"""
Anomalies: samples unlike the rest
==================================

`score_samples` is high for samples like the training samples and low for samples unlike them. The autoencoder's score
is minus the reconstruction error of a sample, that of `VAEGenerator` its log-density. This example fits both, and two
detectors of scikit-learn, to benign tumours only. It measures how well each detects malignant tumours.
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
# The score of every detector is higher for more usual samples. A reconstruction error measures the distance of a
# sample from the surface of decoded codes. It misses a tumour that lies on the surface, far from all others. A
# density does not, so use the VAE here.

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
    xlabel="share of benign tumours below the threshold",
    ylabel="share of malignant tumours below it",
)
plt.show()

# %%
# A threshold depends on what an alarm costs. The 5 % quantile of the scores of usual samples gives about one false
# alarm in twenty, if these samples were not in `fit`. Here half of the benign test samples determine the threshold,
# and the other half measure the rate of false alarms. Each half has 54 samples, so a rate of 0.15 is no surprise.

vae = detectors["VAE"]
scores = vae.score_samples(rows)
calibration, fresh = np.array_split(np.arange(len(test)), 2)
threshold = np.quantile(scores[calibration], 0.05)
alarms = scores < threshold
print(f"alarms: {alarms[fresh].mean():.2f} of benign, {alarms[len(test) :].mean():.2f} of malignant tumours")

# %%
# Which columns make a tumour unusual? `score_features` returns the log-density of each value given the others of its
# sample, in nats. Each column has its own threshold, found in the same way.

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
