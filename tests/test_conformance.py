"""scikit-learn's estimator contract.

No check is expected to fail, except two after training: random batches and a random validation set make weights and
repeated samples equivalent only in distribution. Both pass without training.
"""

from functools import partial

import numpy as np
import pytest
from scipy.sparse import issparse
from scipy.special import expit
from sklearn.base import clone
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils.estimator_checks import estimator_checks_generator
from torch import nn

from skae import AutoencoderTransformer, LatentSizeCV, ModelImputer, ResampledGenerator, VAEGenerator
from skae.data import parameters

# Random rows have nothing to learn, and the estimators say so.
pytestmark = [
    pytest.mark.usefixtures("narrow_networks", "rough_estimates"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]


class OwnCoder(nn.Sequential):
    """A class, whose name the checks show without an address."""

    def __init__(self, n_in, n_out):
        super().__init__(nn.Linear(n_in, 6), nn.Tanh(), nn.Linear(6, n_out))


class Prepared:
    """Turns numbers of any kind into those that a likelihood takes: scikit-learn has no tag for such data.

    What is no table of numbers stays as it is, so that it is refused.
    """

    @staticmethod
    def prepare(X):
        raise NotImplementedError

    def _prepared(self, X):
        if issparse(X):
            return self.prepare(X.tocsr())
        if np.asarray(X).dtype.kind == "O":
            try:
                return self.prepare(np.asarray(X, dtype=float))
            except (TypeError, ValueError):
                return X
        return self.prepare(X) if np.asarray(X).dtype.kind in "biuf" else X

    def fit(self, X, y=None):
        return super().fit(self._prepared(X), y)

    def partial_fit(self, X, y=None):
        return super().partial_fit(self._prepared(X), y)

    def transform(self, X):
        return super().transform(self._prepared(X))

    def score(self, X, y=None):
        return super().score(self._prepared(X), y)

    def score_samples(self, X, *y):
        return super().score_samples(self._prepared(X), *y)


def squash(X):
    """Numbers in [0, 1]; sparse ones, which would not stay sparse, are that already."""
    return X if issparse(X) else expit(X)


class SquashedAutoencoder(Prepared, AutoencoderTransformer):
    prepare = staticmethod(squash)


class SquashedVAE(Prepared, VAEGenerator):
    prepare = staticmethod(squash)


class CountVAE(Prepared, VAEGenerator):
    @staticmethod
    def prepare(X):
        """Whole numbers: scikit-learn's have fractions. Negative ones stay, and are refused."""
        return X.floor() if issparse(X) else np.floor(X)


class RowsOfPixels:
    """Takes rows of any width for images one pixel high: scikit-learn's have too few columns for others."""

    def fit(self, X, y=None):
        shape = np.asarray(X).shape
        return self._of_pixels(super().fit, shape[1] if len(shape) == 2 else None, X, y)

    def partial_fit(self, X, y=None):
        width = getattr(self, "n_features_in_", None) or np.asarray(X).shape[1]
        return self._of_pixels(super().partial_fit, width, X, y)

    def _of_pixels(self, fit, width, X, y):
        self.feature_shape = (1, 1, width) if width else None
        try:
            return fit(X, y)
        finally:
            self.feature_shape = None


@pytest.fixture(autouse=True)
def images_of_any_size(monkeypatch):
    """Images of less than 8 by 8 pixels would be refused."""
    monkeypatch.setattr(parameters, "check_feature_shape", lambda value: value)


class ImageAutoencoder(RowsOfPixels, AutoencoderTransformer):
    pass


class ImageVAE(RowsOfPixels, VAEGenerator):
    pass


def quick_vae(**parameters):
    return VAEGenerator(**{"max_iter": 1} | parameters)


def quick(**parameters):
    return AutoencoderTransformer(**{"max_iter": 1} | parameters)


# Every check is run on these: each class, and whatever opens samples in another way.
REPRESENTATIVES = [
    quick(),
    LatentSizeCV(quick(hidden_layer_sizes=(), random_state=0), (1, 2), cv=2),
    ModelImputer(quick()),
    ResampledGenerator(quick(), DecisionTreeClassifier(max_depth=2), n_rounds=1, n_candidates=2),
    quick_vae(),
    quick_vae(likelihood="auto"),
    quick_vae(conditional=True, start="pca"),
]
# On these only the checks that the parameters can decide; all others with make test-all.
OTHERS = [
    quick(n_components=3, ordered=True, max_iter=2),
    ImageAutoencoder(max_iter=1),
    CountVAE(likelihood="negative_binomial", max_iter=1),
    quick(loss="absolute_error"),
    quick(loss="huber", n_components=1),
    quick(loss="poisson"),
    SquashedAutoencoder(loss="log_loss", max_iter=1),
    quick(start="random", hidden_layer_sizes=(8,), activation="tanh"),
    quick(hidden_layer_sizes=()),
    quick(encoder=OwnCoder, decoder=OwnCoder),
    quick(encoder=OwnCoder, decoder=OwnCoder, start="random"),
    quick(n_components=3, noise=0.1, sparsity=0.01, alpha=0.01),
    quick(early_stopping=False, batch_size=4),
    quick(n_components=0.9, max_iter=2),
    quick(n_components="auto", max_iter=2),
    ImageAutoencoder(n_components=3, ordered=True, hidden_layer_sizes=(8,), max_iter=2),
    SquashedVAE(likelihood="bernoulli", max_iter=1),
    CountVAE(likelihood="poisson", max_iter=1),
    CountVAE(likelihood="multinomial", max_iter=1),
    quick_vae(likelihood="auto", n_components=3, ordered=True, max_iter=2),
    quick_vae(start="pca", n_components=1),
    quick_vae(start="random", hidden_layer_sizes=(8,), activation="tanh"),
    quick_vae(hidden_layer_sizes=(), beta=0.5),
    quick_vae(encoder=OwnCoder, decoder=OwnCoder, start="pca"),
    quick_vae(encoder=OwnCoder, decoder=OwnCoder, start="random"),
    quick_vae(n_components=3, alpha=0.01, start="pca"),
    quick_vae(n_components=3, ordered=True, max_iter=2),
    quick_vae(n_components="auto", max_iter=2),
    quick_vae(early_stopping=False, batch_size=4, start="pca"),
    ImageVAE(start="pca", max_iter=1),
    LatentSizeCV(quick_vae(start="pca", random_state=0), (1, 2), cv=2),
]
# All checks only with make test-all: these train for longer, or estimate factor analysis first.
SLOW = [
    AutoencoderTransformer(),
    VAEGenerator(),
    LatentSizeCV(quick(start="random", max_iter=2, random_state=0), (1, 2)),
    quick_vae(encoder=OwnCoder, decoder=OwnCoder),
    quick_vae(n_components=3, alpha=0.01),
    quick_vae(early_stopping=False, batch_size=4),
    quick_vae(conditional=True),
    LatentSizeCV(quick_vae(random_state=0), (1, 2), cv=2),
    ImageVAE(max_iter=1),
]
CONFIGURATIONS = REPRESENTATIVES + OTHERS + SLOW
BEHAVIOUR = {
    "check_estimators_dtypes",
    "check_estimators_pickle",
    "check_estimator_sparse_array",
    "check_fit2d_1feature",
    "check_fit2d_1sample",
    "check_fit_idempotent",
    "check_fit_non_negative",
    "check_methods_sample_order_invariance",
    "check_methods_subset_invariance",
    "check_positive_only_tag_during_fit",
    "check_transformer_general",
    "check_transformer_preserve_dtypes",
}


# That weights are equivalent to repeated samples.
EQUIVALENCE = {"check_sample_weight_equivalence_on_dense_data", "check_sample_weight_equivalence_on_sparse_data"}
# These fit many times. Each of the others runs every third one, in turn, and with make test-all all of them.
IN_TURN = [
    *sorted(EQUIVALENCE),
    "check_estimator_sparse_array",
    "check_estimators_dtypes",
    "check_estimators_pickle",
    "check_fit_idempotent",
    "check_methods_sample_order_invariance",
    "check_methods_subset_invariance",
    "check_positive_only_tag_during_fit",
    "check_transformer_general",
    "check_transformer_preserve_dtypes",
]


CHECKS = [
    (str(configuration).replace("\n", ""), *pair)
    for configuration in CONFIGURATIONS
    for pair in estimator_checks_generator(configuration)
]


def is_in_turn(number, name):
    return name not in IN_TURN or (number + IN_TURN.index(name)) % 3 == 0


def case(shown, estimator, check):
    name, options = (check.func.__name__, check.keywords) if isinstance(check, partial) else (check.__name__, {})
    decides = name in BEHAVIOUR | EQUIVALENCE and not options
    always = estimator in REPRESENTATIVES or (
        estimator in OTHERS and decides and is_in_turn(OTHERS.index(estimator), name)
    )
    return pytest.param(estimator, check, marks=() if always else pytest.mark.slow, id=f"{shown}-{name}{options or ''}")


@pytest.mark.parametrize(("estimator", "check"), [case(*pair) for pair in CHECKS])
def test_estimator_checks(estimator, check):
    if getattr(check, "func", check).__name__ in EQUIVALENCE:
        estimator = clone(estimator)
        getattr(estimator, "estimator", estimator).set_params(max_iter=0, early_stopping=False)
    check(estimator)


def test_scikit_learn_has_the_checks_that_parameters_can_decide():
    assert {getattr(check, "func", check).__name__ for _, _, check in CHECKS} >= BEHAVIOUR | EQUIVALENCE


@pytest.mark.parametrize("estimator", CONFIGURATIONS)
def test_no_check_is_expected_to_fail(estimator):
    """There is no table of excuses: no tag that skips checks is set either."""
    tags = estimator.__sklearn_tags__()
    assert not tags._skip_test
    assert not tags.no_validation
    assert not tags.non_deterministic
    assert tags.input_tags.two_d_array
