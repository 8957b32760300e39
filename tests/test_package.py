"""What is built installs, and the files around it say the same as the package."""

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from random_versions import bounds, key

import skae

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def pins(path):
    return dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / path).read_text(), flags=re.M))


def test_the_lowest_constraints_are_the_lower_bounds():
    lowest = pins("constraints-lowest.txt")
    assert {name: key(lowest[name]) for name in bounds()} == {name: key(bound) for name, bound in bounds().items()}


def test_torch_is_the_same_in_all_environments():
    assert len({pins(f"constraints{kind}.txt")["torch"] for kind in ("", "-lowest", "-newest")}) == 1


def test_the_workflow_runs_the_lower_bound_and_the_newest_of_torch():
    workflow = yaml.safe_load((ROOT / ".github/workflows/tests.yml").read_text())
    commands = {job["run"] for job in workflow["jobs"]["tests"]["strategy"]["matrix"]["include"]}
    (bound,) = [entry for entry in PROJECT["dependencies"] if entry.startswith("torch>=")]
    lowest = f"make test-lowest TORCH={bound.removeprefix('torch>=')}.0"
    assert commands == {"make lint house test", lowest, "make test-newest TORCH="}


def test_everything_that_development_names_is_pinned():
    named = [entry for extra in PROJECT["optional-dependencies"].values() for entry in extra]
    named = {re.match(r"[\w-]+", entry).group() for entry in named + PROJECT["dependencies"]} - {"skae"}
    assert named <= set(pins("constraints.txt"))


def test_the_citation_is_of_this_version():
    assert f"version: {skae.__version__}\n" in (ROOT / "CITATION.cff").read_text()


PROGRAM = """
import numpy, pathlib, skae
assert "site-packages" in skae.__file__, skae.__file__
assert all((pathlib.Path(skae.__file__).parent / name).exists() for name in ("py.typed", "inspection/page.html"))
X = numpy.random.RandomState(0).normal(size=(50, 4))
print(skae.__version__, skae.AutoencoderTransformer(2, max_iter=1).fit_transform(X).shape)
"""


@pytest.mark.slow
def test_wheel_and_sdist_install_into_an_empty_environment(tmp_path):
    def run(*command):
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run(sys.executable, "-m", "build", "--outdir", "dist", str(ROOT))
    (wheel,), (sdist,) = (tmp_path / "dist").glob("*.whl"), (tmp_path / "dist").glob("*.tar.gz")
    assert not [name for name in zipfile.ZipFile(wheel).namelist() if not name.startswith("skae")]
    run(sys.executable, "-m", "venv", "empty")
    python = str(tmp_path / "empty/bin/python")
    for file, options in ((wheel, []), (sdist, ["--no-deps", "--force-reinstall"])):
        run(python, "-m", "pip", "install", "-c", str(ROOT / "constraints.txt"), *options, str(file))
        assert run(python, "-c", PROGRAM) == f"{skae.__version__} (50, 2)\n"
