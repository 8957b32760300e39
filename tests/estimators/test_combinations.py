"""Every data source with every mode in every use: it works, or one sentence says what does not and what to do.

A combination is fitted once for all its uses. Costly uses run on every n-th combination, and on all with make test-all.
The page "Search and Pipelines" of the guide has a table of the combinations; run as a script, this file writes it anew.
"""

import re
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from sklearn import config_context
from sklearn.base import clone
from torch import nn

from skae import TRUSTED_TYPES, AutoencoderTransformer, LatentSizeCV, VAEGenerator, reconstruction_error, to_onnx

pytestmark = [
    pytest.mark.usefixtures("narrow_networks", "rough_estimates"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]
PAGE = Path(__file__).parents[2] / "docs/guide/search.md"
N_SAMPLES, N_IMAGES = 48, 30
RNG = np.random.RandomState(0)
LATENT = RNG.normal(size=(N_SAMPLES, 2))
DENSE = LATENT @ RNG.normal(size=(2, 6)) + 0.3 * RNG.normal(size=(N_SAMPLES, 6))
COUNTS = RNG.poisson(np.exp(0.5 * LATENT @ RNG.normal(size=(2, 6)) + 1)).astype(float)
LABELS = np.where(LATENT[:, 0] > 0, "a", "b")


# Sources of data.


def read_only_file():
    with tempfile.NamedTemporaryFile(suffix=".npy") as file:
        np.save(file, DENSE)
        file.flush()
        return np.load(file.name, mmap_mode="r")


def with_missing_values():
    missing = np.random.RandomState(1).uniform(size=DENSE.shape) < 0.15
    missing[3], missing[:, 4] = True, True
    return np.where(missing, np.nan, DENSE)


def mixed_columns():
    city = np.where(LATENT[:, 1] > 0, "Oslo", "Rome")
    columns = {"size": DENSE[:, 0], "city": pd.Categorical(city), "visits": COUNTS[:, 0].astype(int)}
    return pd.DataFrame(columns | {"member": LATENT[:, 0] > 0})


@dataclass(frozen=True, eq=False)
class Source:
    """Samples of a kind, and the parameters that go with them.

    What is an array once it is read has few quick tests: those of ``modes``.
    """

    name: str
    make: callable
    parameters: dict = field(default_factory=dict)
    modes: tuple | None = None

    @property
    def X(self):
        return samples_of(self)

    @property
    def array(self):
        """The samples as an array, for what takes arrays only."""
        return self.X.toarray() if sparse.issparse(self.X) else np.asarray(self.X)


@cache
def samples_of(source):
    return source.make()


ARRAYS = ("plain", "conditional")
SOURCES = [
    Source("array", lambda: DENSE),
    Source("DataFrame of numbers", lambda: pd.DataFrame(DENSE, columns=list("abcdef")), modes=ARRAYS),
    Source("torch tensor", lambda: torch.tensor(DENSE), modes=ARRAYS),
    Source("sparse matrix", lambda: sparse.csr_array(np.maximum(DENSE, 0))),
    Source("file", read_only_file),
    Source("missing values", with_missing_values),
    Source("mixed DataFrame", mixed_columns, {"loss": "auto", "likelihood": "auto"}),
    Source("images", lambda: RNG.uniform(size=(N_IMAGES, 64)), {"feature_shape": (1, 8, 8)}),
    Source("counts", lambda: COUNTS, {"loss": "poisson", "likelihood": "negative_binomial"}),
    Source("sparse counts", lambda: sparse.csr_array(COUNTS), {"loss": "poisson", "likelihood": "multinomial"}),
]


# Modes of the estimators.


def own_layers(n_in, n_out):
    return nn.Sequential(nn.Linear(n_in, 4), nn.Tanh(), nn.Linear(4, n_out))


@dataclass(frozen=True, eq=False)
class Mode:
    name: str
    parameters: dict
    estimators: tuple = (AutoencoderTransformer, VAEGenerator)


AUTO = '`"auto"` size'
MODES = [
    Mode("plain", {}),
    Mode("ordered", {"ordered": True}),
    Mode(AUTO, {"n_components": "auto"}),
    Mode("random start", {"start": "random"}),
    Mode("own nets", {"encoder": own_layers, "decoder": own_layers}),
    Mode("conditional", {"conditional": True}, (VAEGenerator,)),
    Mode("mixture prior", {"prior": "mixture"}, (VAEGenerator,)),
]


@dataclass(frozen=True, eq=False)
class Combination:
    """A data source, an estimator and a mode."""

    source: Source
    estimator: type
    mode: Mode

    def __str__(self):
        return f"{self.source.name}-{self.estimator.__name__}-{self.mode.name}"

    @property
    def labels(self):
        """What a conditional model is fitted to, beside the samples; others ignore it."""
        return LABELS[: len(self.array)]

    @property
    def context(self):
        """What a conditional model takes beside the samples."""
        return (self.labels,) if "conditional" in self.mode.parameters else ()

    @property
    def X(self):
        return self.source.X

    @property
    def array(self):
        return self.source.array

    @property
    def inputs(self):
        """The inputs of an ONNX graph."""
        columns = {"rows": self.array}
        if self.array.dtype == object:
            types = self.X.dtypes.map(lambda dtype: object if dtype == "category" else float)
            columns = {name: self.X[name].to_numpy(dtype=types[name])[:, None] for name in self.X}
        return columns | ({"class": self.labels.astype(object)[:, None]} if self.context else {})

    def new(self):
        wanted = {"max_iter": 1, "batch_size": 16, "random_state": 0, **self.source.parameters, **self.mode.parameters}
        known = self.estimator().get_params()
        return self.estimator(**{name: value for name, value in wanted.items() if name in known})

    def fit(self):
        return self.new().fit(self.X, *self.context)


COMBINATIONS = [
    Combination(source, estimator, mode) for source in SOURCES for mode in MODES for estimator in mode.estimators
]


# Uses of a fitted estimator, each with what must be true of it.


@dataclass(frozen=True, eq=False)
class Use:
    """A check of a fitted estimator.

    ``every`` says on which combinations it runs in the quick tests: every n-th, where n has no divisor in common with
    the number of combinations of a source. ``modes`` are those that have it.
    """

    check: callable
    every: float
    modes: tuple


USES = {}


def use(every=1, modes=tuple(mode.name for mode in MODES)):
    def register(check):
        USES[check.__name__.rstrip("_")] = Use(check, every, modes)
        return check

    return register


@use()
def transform(model, case):
    codes = model.transform(case.X)
    assert codes.shape == (len(case.array), model.n_components_)
    assert np.isfinite(codes).all()


@use(every=5)
def inverse_transform(model, case):
    back = model.inverse_transform(model.transform(case.X))
    assert back.shape == case.array.shape
    assert isinstance(back, pd.DataFrame) or np.isfinite(back).all()


@use(every=7)
def set_output(model, case):
    with config_context(transform_output="pandas"):
        frame = model.transform(case.X)
    assert list(frame.columns) == list(model.get_feature_names_out())


@use(every=5)
def score(model, case):
    assert np.isfinite(model.score(case.X, *case.context))


@use(every=5)
def score_samples(model, case):
    scores = model.score_samples(case.X, *case.context)
    assert scores.shape == (len(case.array),)
    assert np.isfinite(scores).all()


@use(every=5)
def reconstruction_error_(model, case):
    assert 0 <= reconstruction_error(model, case.X) < np.inf


@use(every=5)
def sample(model, case):
    drawn = model.sample(5, random_state=0)
    assert drawn.shape == (5, case.array.shape[1])
    assert not case.context or len(model.sample(3, y="a")) == 3


@use()
def impute(model, case):
    filled = np.asarray(model.impute(case.X))
    observed = ~pd.isna(case.array)
    assert not pd.isna(filled).any()
    assert (filled[observed] == case.array[observed]).all()


@use(modes=("ordered", AUTO))
def truncate(model, case):
    np.testing.assert_array_equal(model.truncate(1).transform(case.X), model.transform(case.X)[:, :1])


@use(every=7)
def partial_fit(model, case):
    batches = clone(model)
    for _ in range(2):
        batches.partial_fit(case.X, *case.context)
    assert np.isfinite(batches.transform(case.X)).all()


@use(every=7)
def sample_weight(model, case):
    weights = np.arange(len(case.array)) % 3
    weighted = clone(model).fit(case.X, *case.context, sample_weight=weights)
    assert np.isfinite(weighted.score(case.X, *case.context, sample_weight=weights))


@use(modes=("conditional",))
def fit_without_classes(model, case):
    clone(model).fit(case.X, sample_weight=np.ones(len(case.array)))


@use(every=23)
def checkpoint(model, case):
    with tempfile.TemporaryDirectory() as folder:
        first, again = (clone(model).set_params(checkpoint=folder).fit(case.X, *case.context) for _ in range(2))
    np.testing.assert_array_equal(first.transform(case.X), again.transform(case.X))


@use(every=7)
def skops_files(model, case):
    skops = pytest.importorskip("skops.io")
    own = [f"{own_layers.__module__}.{own_layers.__name__}"]
    twin = skops.loads(skops.dumps(model), trusted=[*TRUSTED_TYPES, *own])
    np.testing.assert_array_equal(twin.transform(case.X), model.transform(case.X))


@use(modes=("own nets",))
def skops_files_of_unknown_names(model, case):
    skops = pytest.importorskip("skops.io")
    skops.loads(skops.dumps(model), trusted=TRUSTED_TYPES)


@use(every=np.inf)
def onnx(model, case):
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    with tempfile.NamedTemporaryFile(suffix=".onnx") as file:
        to_onnx(model, file.name, dtype="float64")
        codes = runtime.InferenceSession(file.name).run(None, case.inputs)[0]
    if case.context:  # codes given the class; transform averages over classes
        assert np.isfinite(codes).all()
    else:
        np.testing.assert_allclose(codes, model.transform(case.X), atol=1e-3)


@use(every=31)
def LatentSizeCV_(model, case):
    search = LatentSizeCV(clone(model), (1, 2), cv=2).fit(case.X, *case.context)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


# What is refused, and the sentence that the user reads.


@dataclass(frozen=True, eq=False)
class Refused:
    """Uses of all combinations with these names. None stands for all of a kind."""

    uses: tuple
    message: str
    in_words: str
    sources: tuple | None = None
    modes: tuple | None = None

    def covers(self, case, use):
        pairs = [(self.sources, case.source.name), (self.modes, case.mode.name)]
        return use in self.uses and all(names is None or name in names for names, name in pairs)


REFUSED = [
    Refused(
        ("impute",),
        "Sparse X has no missing values to impute.",
        "Sparse samples have no missing values, so there is no `impute`.",
        sources=("sparse matrix", "sparse counts"),
    ),
    Refused(
        ("reconstruction_error",),
        "The reconstruction error takes numbers, but column 'city' of X has 'Oslo'",
        "`reconstruction_error` takes numbers: a category has no distance to another.",
        sources=("mixed DataFrame",),
    ),
    Refused(
        ("partial_fit",),
        "n_components='auto' is chosen on a validation set, and partial_fit has none. Call fit, or set an integer.",
        "`partial_fit` needs an integer as `n_components`: a batch has no validation set to choose one on.",
        modes=(AUTO,),
    ),
    Refused(
        ("skops_files_of_unknown_names",),
        "own_layers",
        "A skops file of your own layers opens only if `trusted` has their names, since it could name any code.",
        modes=("own nets",),
    ),
    Refused(
        ("fit_without_classes",),
        "conditional=True requires y to be passed, but the target y is None. Pass classes as y.",
        "A conditional model needs classes as `y`, also where weights are passed.",
        modes=("conditional",),
    ),
]


def refusal(case, use):
    return next((refused for refused in REFUSED if refused.covers(case, use)), None)


def is_quick(case, name):
    """Each use on every n-th combination, beginning with another one; what is refused on all."""
    if case.source.modes and case.mode.name not in case.source.modes:
        return False
    if refusal(case, name):
        return True
    place = COMBINATIONS.index(case) + list(USES).index(name)
    return place % USES[name].every == 0


def cases(refused):
    """All cases that are refused, or that work, those of one combination in a row."""
    for case in COMBINATIONS:
        for name, use in USES.items():
            if case.mode.name in use.modes and bool(refusal(case, name)) == refused:
                marks = () if is_quick(case, name) else pytest.mark.slow
                yield pytest.param(case, name, marks=marks, id=f"{case}-{name}")


@cache
def fitted(case):
    """The fit of a combination, shared by its uses."""
    return case.fit()


@pytest.mark.parametrize(("case", "use"), list(cases(refused=False)))
def test_combinations_that_work(case, use):
    USES[use].check(fitted(case), case)


@contextmanager
def says_why(refused):
    """Expect the sentence in the error, or in its cause: scikit-learn's errors of missing methods have it there."""
    with pytest.raises((AttributeError, TypeError, ValueError)) as error:
        yield
    assert re.search(refused.message, f"{error.value} {error.value.__cause__}")


@pytest.mark.parametrize(("case", "use"), list(cases(refused=True)))
def test_uses_that_are_refused(case, use):
    with says_why(refusal(case, use)):
        USES[use].check(fitted(case), case)


# The table of the page.

MARKS = "¹²³⁴⁵⁶⁷⁸⁹"


def marked(name, header):
    """A name of the table's ``header``, with the marks of what is refused in its row or column."""
    marks = [MARKS[place] for place, refused in enumerate(REFUSED) if name in (getattr(refused, header) or ())]
    return " ".join([name, *marks])


def table():
    """Data sources by modes, in Markdown, with a line for all that is refused."""
    rows = [["", *(marked(mode.name, "modes") for mode in MODES)], ["---"] * (len(MODES) + 1)]
    estimators = ["both" if len(mode.estimators) == 2 else "VAE" for mode in MODES]
    rows += [[marked(source.name, "sources"), *estimators] for source in SOURCES]
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    notes = [f"{number}. {refused.in_words}" for number, refused in enumerate(REFUSED, start=1)]
    return "\n".join([*lines, "", *notes])


def around_the_table():
    return re.fullmatch(r"(.*<!-- combinations -->\n\n)(.*)(\n\n<!-- end -->.*)", PAGE.read_text(), flags=re.S).groups()


def test_the_page_has_the_table():
    assert around_the_table()[1] == table()


if __name__ == "__main__":
    before, _, after = around_the_table()
    PAGE.write_text(before + table() + after)
