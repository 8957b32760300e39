"""Run tests on versions of the dependencies drawn at random: `make test-random SEED=7 ARGS="tests/persistence -x"`.

Each package with a lower bound in pyproject.toml, but torch, has a version from there to the newest that has a wheel
for this Python. Versions that cannot be installed together, or of which one is not imported, are drawn again. A seed
gives the same versions again as long as no new ones appear; .venv-random/constraints.txt has those of the last run.
"""

import argparse
import os
import random
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / ".venv-random"
PYTHON = FOLDER / "bin/python"
PIP = [PYTHON, "-m", "pip", "--disable-pip-version-check"]
INSTALL = [*PIP, "install", "--quiet", "--only-binary", ":all:"]
# Dependencies warn of what others have deprecated since.
WARNINGS = [f"-Wdefault::{kind}" for kind in ("DeprecationWarning", "PendingDeprecationWarning", "FutureWarning")]
# Modules that show whether a package works with the versions of others, where its name is none.
MODULES = {"scikit-learn": "sklearn.linear_model", "matplotlib": "matplotlib.pyplot", "skops": "skops.io"}


def key(version):
    """Return a version as numbers, without zeros at its end."""
    return [int(number) for number in re.findall(r"\d+", re.sub(r"(\.0)+$", "", version))]


def bounds():
    """Return the lower bounds of all dependencies but torch, optional ones included."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    entries = sum(project["optional-dependencies"].values(), project["dependencies"])
    found = [re.fullmatch(r"([\w-]+)>=([\d.]+)", entry) for entry in entries]
    return {match[1]: match[2] for match in found if match and match[1] != "torch"}


def allowed(package, bound):
    """Return the versions of a package from the bound on for which there are wheels."""
    command = [*PIP, "index", "versions", package, "--only-binary", ":all:"]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    versions = re.search(r"Available versions: (.+)", told)[1].split(", ")
    return [version for version in versions if key(version) >= key(bound)]


def works(drawn):
    """Install these versions, and return whether all packages are imported."""
    torch = re.search(r"^torch==.+$", (ROOT / "constraints.txt").read_text(), flags=re.M)[0]
    pins = [torch, *(f"{package}=={version}" for package, version in drawn.items())]
    (FOLDER / "constraints.txt").write_text("\n".join(pins) + "\n")
    modules = ", ".join(MODULES.get(package, package) for package in drawn)
    commands = (
        [*INSTALL, *pins],  # alone at first, since pip finds a conflict of these at once
        [PYTHON, "-c", f"import {modules}"],
        [*INSTALL, "-c", FOLDER / "constraints.txt", "-e", f"{ROOT}[dev]"],
    )
    return all(subprocess.run(c, check=False, stderr=subprocess.DEVNULL).returncode == 0 for c in commands)


def draw(seed, options, works=works):
    """Return versions that work together, the first that a seed gives."""
    rng = random.Random(seed)
    while True:
        drawn = {package: rng.choice(versions) for package, versions in options.items()}
        print(*(f"{package}=={version}" for package, version in drawn.items()), flush=True)
        if works(drawn):
            return drawn
        print("These do not work together: drawn again.", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    arguments, of_pytest = parser.parse_known_args()
    print(f"seed {arguments.seed}", flush=True)
    if not PYTHON.exists():
        subprocess.run([sys.executable, "-m", "venv", FOLDER], check=True)
    draw(arguments.seed, {package: allowed(package, bound) for package, bound in bounds().items()})
    tests = [PYTHON, "-m", "pytest", *WARNINGS, *of_pytest]
    sys.exit(subprocess.run(tests, check=False, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}).returncode)


if __name__ == "__main__":
    main()
