"""Versions that are drawn at random are those that pyproject.toml allows, and a seed draws the same ones again."""

import random_versions
from random_versions import allowed, bounds, draw, key

OPTIONS = {"one": ["1.0", "1.1", "2.0"], "two": ["3.0", "3.1"]}


def test_all_dependencies_but_torch_have_bounds():
    assert {"numpy", "scikit-learn", "scipy", "skorch", "pandas", "pyarrow", "onnx", "accelerate"} <= set(bounds())
    assert "torch" not in bounds()


def test_versions_are_compared_as_numbers():
    assert key("1.10.0") > key("1.9.1") > key("1.9") == key("1.9.0")


def test_versions_from_the_bound_on_are_allowed(monkeypatch):
    class Told:
        stdout = "some (1.10.1)\nAvailable versions: 1.10.1, 1.9.0, 1.8.2, 0.9.post1\nINSTALLED: 1.9.0\n"

    monkeypatch.setattr(random_versions.subprocess, "run", lambda *_, **__: Told)
    assert allowed("some", "1.9") == ["1.10.1", "1.9.0"]


def test_a_seed_draws_the_same_versions_again():
    draws = [draw(seed, OPTIONS, lambda drawn: True) for seed in (*range(20), *range(20))]
    assert draws[:20] == draws[20:]
    assert {tuple(drawn.values()) for drawn in draws} == {(a, b) for a in OPTIONS["one"] for b in OPTIONS["two"]}


def test_versions_that_do_not_work_together_are_drawn_again():
    tried = []

    def works(drawn):
        tried.append(drawn)
        return len(tried) == 5

    assert draw(0, OPTIONS, works) == tried[-1]
    assert len(tried) == 5
