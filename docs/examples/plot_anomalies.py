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
# A threshold depends on what an alarm costs. `numpy.quantile` of the scores of the training samples gives one for a
# wanted share of false alarms, as ``contamination`` does elsewhere. Of new samples two to three times as many may be
# below it. If the share matters, use samples that were kept out of `fit`.

vae = detectors["VAE"]
threshold = np.quantile(vae.score_samples(scaler.transform(train)), 0.05)
alarms = vae.score_samples(rows) < threshold
print(f"alarms: {alarms[: len(test)].mean():.2f} of benign, {alarms[len(test) :].mean():.2f} of malignant tumours")
