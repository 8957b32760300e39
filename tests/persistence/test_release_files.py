"""Files that earlier releases wrote open in this version, with the same results."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("skops.io")
from release_files import CASES, FOLDER, FORMATS, results, write

import skae

FILES = [path.relative_to(FOLDER) for path in sorted(FOLDER.glob("*/*")) if path.suffix in FORMATS]
# That of a GaussianMixture in a file, which scikit-learn gives for files of its own other versions.
of_the_mixture = pytest.mark.filterwarnings("ignore:Trying to unpickle:sklearn.exceptions.InconsistentVersionWarning")


def opened(path):
    """Return the model in a file, and its samples."""
    _, load = FORMATS[path.suffix]
    _, samples = CASES[path.stem]
    return load(path), samples()


def check_results(path):
    with np.load(path.with_name("results.npz")) as results_then:
        for kind, found in results(*opened(path)).items():
            expected = results_then[f"{path.stem}/{kind}"]
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * np.abs(expected).max(), err_msg=kind)


@of_the_mixture
@pytest.mark.parametrize("file", FILES, ids=str)
def test_a_file_of_a_release_opens_with_the_same_results(file):
    check_results(FOLDER / file)


@of_the_mixture
@pytest.mark.parametrize("file", FILES, ids=str)
def test_a_model_from_a_file_of_a_release_can_be_used(file):
    model, X = opened(FOLDER / file)
    assert np.shape(model.sample(3, random_state=0)) == (3, X.shape[1])
    assert np.isfinite(model.score(X))


def test_this_version_has_files_of_all_cases():
    assert set(FILES) >= {Path(skae.__version__, name + suffix) for name in CASES for suffix in FORMATS}


def test_files_are_small():
    assert max((FOLDER / file).stat().st_size for file in FILES) < 25_000


def test_files_that_are_written_now_open_with_their_results(tmp_path):
    write(tmp_path / "now")
    for name in CASES:
        for suffix in FORMATS:
            check_results(tmp_path / "now" / (name + suffix))
