"""A file with one change is refused by an error that says so, or holds a model with finite results."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
# SKAE_TEST_CHANGES=10 makes ten times as many changes of each kind.
TIMES = int(os.environ.get("SKAE_TEST_CHANGES", "1"))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited by what /proc says")
@pytest.mark.parametrize(("kind", "n"), [("states", 500), ("pickles", 500), ("checkpoints", 300), ("sealed", 300)])
def test_a_changed_file_is_refused_or_finite(kind, n, seed, tmp_path):
    """In a process of its own: it must not crash, nor take more than 3 seconds or 1 GB."""
    log = tmp_path / "log"
    command = [sys.executable, "changed_files.py", kind, str(TIMES * n), "--seed", str(seed), "--log", str(log)]
    process = subprocess.run(command, cwd=BENCHMARKS, stdout=subprocess.PIPE, text=True)
    assert process.returncode == 0, log.read_text()
    found = json.loads(process.stdout.splitlines()[-1])
    assert found["others"] == []
    assert min(found["counts"]["refused"], found["counts"]["finite"]) > n / 20
