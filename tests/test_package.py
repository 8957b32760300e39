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
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]


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


def test_the_conda_recipe_says_what_pyproject_says():
    recipe = yaml.safe_load((ROOT / ".github/conda/recipe.yaml").read_text())
    python = PROJECT["requires-python"].removeprefix(">=")
    assert recipe["context"] == {"version": skae.__version__, "python_min": python}
    entries = [entry.replace("torch", "pytorch").replace(">=", " >=") for entry in PROJECT["dependencies"]]
    assert recipe["requirements"]["run"] == ["python >=${{ python_min }}", *entries]
    (setuptools,) = PYPROJECT["build-system"]["requires"]
    assert setuptools.replace(">=", " >=") in recipe["requirements"]["host"]
    assert recipe["about"]["summary"] == PROJECT["description"]
    assert recipe["about"]["license"] == PROJECT["license"]
    assert [recipe["about"]["license_file"]] == PROJECT["license-files"]


def test_a_release_publishes_the_files_that_were_checked_and_stores_no_secret():
    text = (ROOT / ".github/workflows/release.yml").read_text()
    jobs = yaml.safe_load(text)["jobs"]
    assert "secrets." not in text
    assert {"run": "make dist"} in jobs["build"]["steps"]
    assert jobs["publish"]["needs"] == "build"
    assert jobs["publish"]["permissions"] == {"id-token": "write"}


@pytest.mark.parametrize("folder", [".", "docs", "skae"])
def test_nothing_names_a_place_where_the_package_is_not_yet(folder):
    """Until it is published: no pip install of its name, and no badges, which are images from elsewhere."""
    files = (ROOT / folder).glob("*" if folder == "." else "**/*")
    for path in files:
        if path.suffix in (".md", ".py", ".rst", ".toml"):
            assert not re.search(r"pip install ['\"]?skae|!\[[^\]]*\]\(https?:", path.read_text()), path


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
    python, program = str(tmp_path / "empty/bin/python"), str(ROOT / "tests/installed.py")
    for file, options in ((wheel, []), (sdist, ["--no-deps", "--force-reinstall"])):
        run(python, "-I", "-m", "pip", "install", "-c", str(ROOT / "constraints.txt"), *options, str(file))
        assert run(python, "-I", program) == f"{skae.__version__} (200, 2) (3, 64)\n"
