"""The package keeps to the map of its rooms, and CONTRIBUTING shows that map."""

import re
import subprocess
import sys
from graphlib import TopologicalSorter

import pytest
import rooms
from rooms import MAP, MODULES, PAGE, PICTURE, ROOMS, ROOT, room_of


@pytest.mark.parametrize("module", MODULES)
def test_every_module_belongs_to_a_room(module):
    assert room_of(module) is not None


@pytest.mark.parametrize("room", ROOMS)
def test_every_room_of_the_map_exists(room):
    assert room in MODULES


@pytest.mark.parametrize("module", MODULES)
def test_imports_follow_the_arrows(module):
    assert not rooms.arrows_back(module)


def test_the_map_names_rooms_only_and_has_no_circle():
    assert set().union(*(room["imports"] for room in ROOMS.values())) <= set(ROOMS)
    assert list(TopologicalSorter({name: room["imports"] for name, room in ROOMS.items()}).static_order())


def test_no_module_imports_itself_by_way_of_others():
    assert not rooms.modules_in_circles()


@pytest.mark.parametrize("module", MODULES)
def test_only_training_imports_skorch(module):
    """The report imports it too, for its version."""
    assert "skorch" not in rooms.libraries(module) or room_of(module) == "training" or module == "inspection.report"


@pytest.mark.parametrize("module", [module for module in MODULES if "without" in ROOMS.get(room_of(module), ())])
def test_rooms_do_without_the_libraries_that_the_map_forbids(module):
    assert not rooms.libraries(module) & set(ROOMS[room_of(module)]["without"])


def test_networks_and_objectives_are_pure_torch():
    forbidden = {name: set(room["without"]) for name, room in ROOMS.items() if "without" in room}
    assert forbidden == {name: {"numpy", "scipy", "sklearn"} for name in ("objectives", "networks")}


def test_contributing_shows_the_map():
    """After a change of the map run tests/rooms.py."""
    assert PAGE.read_text() == rooms.page()
    assert PICTURE.read_text() == rooms.draw()
    assert f"]({PICTURE.relative_to(ROOT).as_posix()})" in PAGE.read_text()


@pytest.mark.parametrize("room", ROOMS)
def test_the_picture_has_every_room(room):
    assert f">{room}</text>" in rooms.draw() or room == "__init__"


def test_paths_that_contributing_names_exist():
    paths = set(re.findall(r"`((?:skae|tests|docs|benchmarks|\.ci)/[^`\s]*)`", PAGE.read_text()))
    assert paths >= {addition["file"] for addition in MAP["additions"]}
    assert not {path for path in paths if not (ROOT / path).exists()}


@pytest.mark.parametrize("addition", MAP["additions"], ids=lambda addition: addition["what"])
def test_where_to_add_names_what_the_package_has(addition):
    sources = "\n".join(path.read_text() for path in MODULES.values())
    for name in re.findall(r"`([^`]+)`", addition["line"]):
        assert (ROOT / name).exists() if "/" in name else re.search(rf"\b{name}\b", sources), name


def test_imports_and_fits_load_nothing_large():
    """An import brings no matplotlib and no pandas, beyond what scikit-learn loads where it finds it.

    A fit does not bring torch's compiler, which takes longer than a fit of a small table: torch.optim and torch's meta
    tensors load it.
    """
    code = (
        "import sys, warnings, numpy as np, torch, skorch, sklearn.base;"
        "heavy = {'matplotlib', 'onnx', 'pandas', 'polars', 'torch._dynamo', 'tqdm.auto'};"
        "before = heavy & set(sys.modules); import skae; print(sorted((heavy & set(sys.modules)) - before));"
        "warnings.simplefilter('ignore'); X = np.random.RandomState(0).normal(size=(60, 4));"
        "models = skae.AutoencoderTransformer(max_iter=2), skae.VAEGenerator(max_iter=2);"
        "[model.fit(X).partial_fit(X).sample(3) for model in models];"
        "print([name for name in ('torch._dynamo', 'torch._inductor', 'sympy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "[]"]
