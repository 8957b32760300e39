"""
Topics of a book: sparse counts of words
========================================

Texts become a table of word counts: a row for each document, a column for each word, nearly all of it zeros. The sum of
a row is the length of the document. The multinomial likelihood models the shares of words, conditional on the length.
`VAEGenerator` takes the sparse matrix of `CountVectorizer`. The baselines are scikit-learn's topic models: latent
Dirichlet allocation (LDA) and non-negative matrix factorisation (NMF).
"""

import re
import shutil
import subprocess
import time
import warnings

import matplotlib.pyplot as plt
import numpy as np
from scipy.special import gammaln
from sklearn.datasets import fetch_20newsgroups
from sklearn.decomposition import NMF, LatentDirichletAllocation
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.model_selection import train_test_split

from skae import VAEGenerator

N_COMPONENTS = 10


def load_documents():
    """Return documents and their name: posts to newsgroups, else chapters of the Bible, else synthetic ones."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of each try to reach them
            posts = fetch_20newsgroups(subset="train", remove=("headers", "footers", "quotes")).data
        return [post for post in posts if len(post) > 500][:4000], "posts to 20 newsgroups"
    except OSError as error:
        print(f"The 20 newsgroups could not be loaded ({error}).")
    if command := shutil.which("bible"):  # Debian's package bible-kjv-text
        answer = subprocess.run(
            [command, "-f", "-l", "100000"], input="gen1:1-rev22:21\nq\n", capture_output=True, text=True, check=True
        )
        chapters = {}
        for line in answer.stdout.splitlines():
            if verse := re.match(r"\s*(\w+?)(\d+):\d+\s+(.*)", line):
                chapters.setdefault(verse.groups()[:2], []).append(verse[3])
        return [" ".join(verses) for verses in chapters.values()], "chapters of the King James Bible"
    print("Debian's package bible-kjv-text is not installed, so these are synthetic documents of six topics.")
    rng = np.random.RandomState(0)
    words = np.array([f"{syllable}{i}" for syllable in ("ka", "mo", "ti", "ru") for i in range(150)])
    topics = rng.dirichlet(np.full(len(words), 0.05), size=6)
    shares = rng.dirichlet(np.full(6, 0.2), size=1200) @ topics
    return [" ".join(rng.choice(words, 150, p=share)) for share in shares], "synthetic documents"


# %%
# A quarter of the documents is held out. Words of fewer than five documents, and the most common English ones, are
# left out.

documents, name = load_documents()
train, test = train_test_split(documents, test_size=0.25, random_state=0)
vectorizer = CountVectorizer(stop_words="english", min_df=5)
X_train, X_test = vectorizer.fit_transform(train).astype(np.float64), vectorizer.transform(test).astype(np.float64)
words = vectorizer.get_feature_names_out()
print(
    f"{X_train.shape[0]} {name} of {X_train.shape[1]} words, {X_train.nnz / np.prod(X_train.shape):.1%} of it not zero"
)

# %%
# Perplexity is the usual measure of such models: exp of minus the mean log-probability of a word. A model that
# chooses between n equally probable words has perplexity n. The figures are upper bounds: scikit-learn's own for LDA,
# and one by the ELBO for the VAE. The multinomial coefficient, which counts the orders of words, is left out. NMF is
# no density. The figure for NMF is the perplexity of its reconstruction, scaled to shares. It is too low in
# comparison, since the reconstruction depends on the document.

n_words = X_test.sum()
coefficient = (gammaln(np.asarray(X_test.sum(axis=1)) + 1)).sum() - gammaln(X_test.data + 1).sum()

began = time.perf_counter()
vae = VAEGenerator(N_COMPONENTS, likelihood="multinomial", max_iter=30, random_state=0).fit(X_train)
seconds = {"VAE": time.perf_counter() - began}
began = time.perf_counter()
linear = VAEGenerator(N_COMPONENTS, likelihood="multinomial", max_iter=0).fit(X_train)
seconds["VAE, not trained"] = time.perf_counter() - began
perplexity = {
    label: np.exp((coefficient - model.score_samples(X_test).sum()) / n_words)
    for label, model in {"VAE": vae, "VAE, not trained": linear}.items()
}
began = time.perf_counter()
lda = LatentDirichletAllocation(N_COMPONENTS, max_iter=20, random_state=0).fit(X_train)
seconds["LDA"], perplexity["LDA"] = time.perf_counter() - began, lda.perplexity(X_test)
began = time.perf_counter()
nmf = NMF(N_COMPONENTS, init="nndsvda", max_iter=400, random_state=0).fit(X_train)
seconds["NMF"] = time.perf_counter() - began
counts = nmf.transform(X_test) @ nmf.components_ + 1e-3
shares = counts / counts.sum(axis=1, keepdims=True)
perplexity["NMF (reconstructed)"] = np.exp(-X_test.multiply(np.log(shares)).sum() / n_words)
share = (np.asarray(X_train.sum(axis=0)).ravel() + 0.5) / (X_train.sum() + 0.5 * len(words))
perplexity["independent of document"] = np.exp(-(X_test @ np.log(share)).sum() / n_words)

print("\nPerplexity of held-out documents")
for label, value in perplexity.items():
    took = seconds.get(label.split(" (")[0])
    print(f"{label:<24}{value:8.0f}" + (f"{took:10.1f} s" if took else ""))

# %%
# Topics. In the linear model, `max_iter=0`, a step along a component multiplies the share of each word by a factor,
# whose logarithm is in `components_`. The words of a topic are frequent words with a large or a small factor, so each
# component has two topics, one for either direction. Components of LDA and NMF have one.


def top(weights, n=5):
    return ", ".join(words[np.argsort(-weights)[:n]])


topics = lda.components_ / lda.components_.sum(axis=1, keepdims=True)
print("\nlinear VAE: words of either direction of a component")
for component in linear.components_[:5]:
    print(f"  {top(component * np.sqrt(share)):<50} | {top(-component * np.sqrt(share))}")
print("LDA: words that are more common in a topic than elsewhere")
for topic in topics[:5]:
    print("  " + top(np.sqrt(share) * np.log(topic / share)))
print("NMF")
for topic in nmf.components_[:5]:
    print("  " + top(topic))

# %%
# New documents are bags of words. The VAE draws a code, decodes it to shares, and draws as many words as a random
# training document has.

print("\nThe most common words of three new documents")
for bag in vae.sample(3, random_state=0):
    print("  " + ", ".join(f"{words[i]} {bag[i]:.0f}" for i in np.argsort(-bag)[:12]))

figure, axes = plt.subplots(1, 2, figsize=(10, 3.8), width_ratios=[1, 1.2])
bars = list(perplexity)[::-1]
axes[0].barh(bars, [perplexity[label] for label in bars], color=["C1" if b.startswith("VAE") else "0.6" for b in bars])
axes[0].set(xlabel="perplexity of held-out documents", title=f"{N_COMPONENTS} components")
codes = linear.transform(X_test)
axes[1].scatter(*codes[:, :2].T, s=8, color="0.7")
for end in (-1, 1):
    for axis in (0, 1):
        label = top(end * linear.components_[axis] * np.sqrt(share), 3).replace(", ", "\n")
        place = np.zeros(2)
        place[axis] = end * 1.15 * np.abs(codes[:, :2]).max()
        axes[1].annotate(label, place, ha="center", va="center", fontsize=8, color="C0")
limit = 1.45 * np.abs(codes[:, :2]).max()
axes[1].set(
    xlim=(-limit, limit), ylim=(-limit, limit), xlabel="component 1", ylabel="component 2", title="held-out documents"
)
figure.tight_layout()
plt.show()
