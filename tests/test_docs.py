"""What the documentation says is what the code does."""

import doctest
import inspect
import json
import re
import runpy
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from numpydoc.docscrape import ClassDoc, FunctionDoc
from numpydoc.validate import validate

import skae
from skae import AutoencoderTransformer, VAEGenerator

ROOT = Path(__file__).parents[1]
ESTIMATORS = [AutoencoderTransformer, VAEGenerator]
EXAMPLES = sorted((ROOT / "docs/examples").glob("plot_*.py"))
PUBLIC = [name for name in skae.__all__ if name not in ("TRUSTED_TYPES", "__version__")]


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_documented_parameters_are_the_real_ones_with_their_defaults(estimator):
    documented = {
        name.strip(): parameter.type
        for parameter in ClassDoc(estimator)["Parameters"]
        for name in parameter.name.split(",")
    }
    signature = inspect.signature(estimator)
    assert list(documented) == list(signature.parameters)
    for name, parameter in signature.parameters.items():
        default = re.search(r"default=(.+)$", documented[name]).group(1)
        assert eval(default) == parameter.default, name


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_documented_attributes_are_the_fitted_ones(estimator, curve):
    import pandas as pd

    fitted = set()
    for given in {"ordered", "conditional"} & set(inspect.signature(estimator).parameters):
        model = estimator(max_iter=2, random_state=0, early_stopping=False, **{given: True})
        model.fit(pd.DataFrame(curve, columns=list("abcde")), curve[:, 0] > 0)
        fitted |= {name for name in vars(model) if name.endswith("_") and not name.startswith("_")}
    by_column = {"loss", "likelihood"} & set(inspect.signature(estimator).parameters)
    model = estimator(max_iter=0, **dict.fromkeys(by_column, "auto")).fit(pd.DataFrame(curve))
    fitted |= {name for name in vars(model) if name.endswith("_") and not name.startswith("_")}
    assert {attribute.name for attribute in ClassDoc(estimator)["Attributes"]} == fitted


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_documented_shapes_are_the_fitted_ones(estimator, curve):
    model = estimator(n_components=3, max_iter=2, random_state=0, early_stopping=False).fit(curve)
    for attribute in ClassDoc(estimator)["Attributes"]:
        shape = re.match(r"ndarray of shape \((.+)\)", attribute.type)
        if shape and hasattr(model, attribute.name):
            expected = tuple(getattr(model, name) for name in shape.group(1).replace(" ", "").split(",") if name)
            assert np.shape(getattr(model, attribute.name)) == expected, attribute.name


def public_objects():
    for name in PUBLIC:
        yield f"skae.{name}"
        thing = getattr(skae, name)
        if inspect.isclass(thing):
            for method, value in inspect.getmembers(thing, callable):
                if not method.startswith("_") and value.__module__.startswith("skae"):
                    yield f"skae.{name}.{method}"


# Codes of numpydoc: missing or wrong sections and parameters, not matters of taste.
CODES = {"GL08", "SS01", "PR01", "PR02", "PR03", "PR04", "RT01", "YD01"}


@pytest.mark.parametrize("name", list(public_objects()))
def test_public_docstrings_are_complete(name):
    assert not [error for error in validate(name)["errors"] if error[0] in CODES]


def test_functions_have_examples():
    for name in PUBLIC:
        thing = getattr(skae, name)
        if inspect.isfunction(thing):
            assert FunctionDoc(thing)["Examples"], name


@pytest.mark.parametrize("name", list(public_objects()))
def test_methods_have_examples_or_are_in_that_of_their_class(name):
    _, of, *method = name.split(".")
    if method and not method[0].startswith(("get_", "set_", "exported_")):
        thing = getattr(skae, of)
        is_used = any(f".{method[0]}(" in line for line in ClassDoc(thing)["Examples"])
        assert is_used or FunctionDoc(getattr(thing, method[0]))["Examples"]


class CloseNumbers(doctest.OutputChecker):
    """Expected output may differ from the real one by 5 % in each number with a point: machines round differently."""

    number = re.compile(r"\d+\.\d+")

    def check_output(self, want, got, optionflags):
        if super().check_output(self.number.sub("#", want), self.number.sub("#", got), optionflags):
            pairs = zip(self.number.findall(want), self.number.findall(got), strict=True)
            return all(float(b) == pytest.approx(float(a), rel=0.05) for a, b in pairs)
        return False


def test_close_numbers_are_equal_and_far_ones_are_not():
    check = CloseNumbers().check_output
    assert check("error 2.90\n", "error 2.95\n", 0)
    assert not check("error 2.90\n", "error 3.20\n", 0)
    assert not check("error 2.90\n", "loss 2.90\n", 0)


PAGES = [
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md")),
    *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs/guide").glob("*.md")),
]
WITH_CODE = [page for page in PAGES if "```py" in (ROOT / page).read_text()]
WITH_OUTPUT = [page for page in WITH_CODE if ">>> " in (ROOT / page).read_text()]


# The index shows what the README shows.
@pytest.mark.parametrize(
    "page", [pytest.param(page, marks=pytest.mark.slow if page == "docs/index.md" else ()) for page in WITH_OUTPUT]
)
def test_what_pages_show_is_what_happens(page):
    test = doctest.DocTestParser().get_doctest((ROOT / page).read_text(), {}, page, page, 0)
    options = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    assert doctest.DocTestRunner(CloseNumbers(), optionflags=options).run(test).failed == 0
    assert test.examples


def programs(page):
    """Blocks of code without prompts."""
    blocks = re.findall(r"^```python\n(.+?)^```", (ROOT / page).read_text(), flags=re.S | re.M)
    return [block for block in blocks if not block.startswith(">>>")]


def test_every_page_with_code_runs():
    assert {page for page in WITH_CODE if programs(page)} | set(WITH_OUTPUT) == set(WITH_CODE)


def runs_here(program):
    """scikit-learn before 1.9 has no callbacks."""
    return "sklearn.callback" not in program or find_spec("sklearn.callback")


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("epochs", [2, pytest.param(None, marks=pytest.mark.slow)])
@pytest.mark.parametrize("page", [page for page in WITH_CODE if programs(page)])
def test_programs_of_a_page_run_one_after_the_other(page, epochs, monkeypatch, tmp_path):
    """With few epochs here, with as many as they say in make test-all."""
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "program"}
    for program in filter(runs_here, programs(page)):
        program = re.sub(r"max_iter=\d+", f"max_iter={epochs}", program) if epochs else program
        exec(compile(program, page, "exec"), names)


@pytest.mark.parametrize("page", PAGES)
def test_blocks_of_pages_are_code_that_runs_or_say_what_they_are(page):
    opened = re.findall(r"^```(.*)$", (ROOT / page).read_text(), flags=re.M)[::2]
    allowed = {"python", "{toctree}", "{eval-rst}"}
    if page in ("README.md", "docs/pca-or-autoencoder.md"):  # commands; the output of one
        allowed.add("")
    assert {kind for kind in opened if not kind.startswith(("{include}", "{image}"))} <= allowed


def anchors(page):
    """What a link into a page may name: its headings as GitHub and the site write them."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", page.read_text(), flags=re.S | re.M), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_links_of_a_page_lead_to_files_and_headings_that_exist(page):
    dead = []
    for link in re.findall(r"\]\(([^)\s]+)\)", (ROOT / page).read_text()):
        path, _, anchor = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        if "://" in link or path in ("gallery/index.rst",):  # the last is made by the site
            continue
        if not target.exists() or (anchor and anchor not in anchors(target)):
            dead.append(link)
    assert not dead


def losing_cells():
    """Table, kind of columns, size and ratios to PCA's error over splits, of cells where the mean is not below 1."""
    rows = {}
    for record in json.loads((ROOT / "benchmarks/results/quality-final.json").read_text())["records"]:
        if record["mode"] in ("standardised", "raw"):
            cell = record["table"], record["mode"], record["size"]
            rows.setdefault(cell, []).append(record["autoencoder_error"] / record["pca_error"])
    for cell, ratios in rows.items():
        if np.exp(np.mean(np.log(ratios))) > 0.9995:
            yield *cell, np.array(ratios)


def test_the_page_on_pca_has_every_cell_that_the_autoencoder_does_not_win():
    page = (ROOT / "docs/when-pca-is-enough.md").read_text()
    lost, tied = set(), set()
    for table, mode, size, ratios in losing_cells():
        mean = np.exp(np.mean(np.log(ratios)))
        if mean > 1.0005:
            lost.add(f"| {table} | {mode} | {size} | {mean:.3f} | {ratios.max():.3f} |")
        else:
            tied.add(f"| {table} | {mode} | {size} |")
    shown = [
        {line for line in page.split(f"<!-- {name} -->")[1].split("\n\n")[0].splitlines()[3:] if line}
        for name in ("losing", "ties")
    ]
    assert shown == [lost, tied]


def test_pages_have_the_counts_and_seconds_of_the_results():
    pages = [(ROOT / page).read_text().replace("\n", " ") for page in PAGES]
    lost = sum(np.exp(np.mean(np.log(ratios))) > 1.0005 for *_, ratios in losing_cells())
    counts = [n for text in pages for n in re.findall(r"(?:above PCA's in|PCA won) (\d+)", text)]
    assert len(counts) > 4
    assert set(counts) == {str(lost)}
    results = (ROOT / "benchmarks/results/quality-final.md").read_text()
    seconds = [s for text in pages for s in re.findall(r"fit took ([\d.]+) seconds in the median", text)]
    assert len(seconds) > 3
    assert set(seconds) == set(re.findall(r"Seconds a fit, \w+: median ([\d.]+)", results))


def test_the_reference_has_every_public_name():
    listed = re.findall(r"^   (\w+)$", (ROOT / "docs/api.md").read_text(), flags=re.M)
    assert sorted(listed) == sorted(PUBLIC)


def test_the_readme_shows_examples_and_both_commands():
    text = (ROOT / "README.md").read_text()
    assert text.count(">>>") > 10
    makefile = (ROOT / "Makefile").read_text()
    for command in ("compare", "test"):
        assert f"make {command}" in text
        assert re.search(rf"^{command}:", makefile, flags=re.M)


def test_the_table_of_digits_is_the_committed_result():
    result = (ROOT / "benchmarks/results/compare-digits.txt").read_text()
    assert result.strip() in (ROOT / "docs/pca-or-autoencoder.md").read_text()


def test_the_index_shows_the_program_of_the_readme():
    (program,) = re.findall(r"```python\n.+?```", (ROOT / "README.md").read_text(), flags=re.S)
    assert program in (ROOT / "docs/index.md").read_text()


def test_every_page_of_the_guide_is_on_its_first_page():
    index = (ROOT / "docs/guide.md").read_text()
    for page in (ROOT / "docs/guide").glob("*.md"):
        assert f"(guide/{page.name})" in index
        assert f"\nguide/{page.stem}\n" in index  # and in the list of the site


def test_the_changelog_has_this_version():
    assert f"## {skae.__version__}" in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda path: path.stem)
def test_a_figure_is_finished_in_the_block_that_begins_it(script):
    """At the end of each the gallery takes a picture of what there is, and closes it."""
    for block in re.split(r"^# %%", script.read_text(), flags=re.MULTILINE):
        drawn = re.search(r"plt\.(subplots|figure)\(|Display\.from_|\.plot\(", block)
        assert bool(drawn) == ("plt.show()" in block), block


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # OpenML out of reach is a warning before it is an error
@pytest.mark.parametrize("script", EXAMPLES, ids=lambda path: path.stem)
def test_examples_run(script, monkeypatch, tmp_path):
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(script), run_name="__main__")
