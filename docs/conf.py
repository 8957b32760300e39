"""How the site is built: `make docs`. It needs no network, and reading it needs none either."""

import os
import re
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

from sphinx_gallery.sorting import ExplicitOrder

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
os.environ.setdefault("OMP_NUM_THREADS", "1")  # small nets gain nothing from more, and lose much on a busy machine

import figures  # noqa: E402
import report  # noqa: E402

import skae  # noqa: E402

project = "skae"
version = release = skae.__version__
author = copyright = "the skae developers"

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "_templates", "examples", "**/README.*"]
templates_path = ["_templates"]
default_role = "obj"
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3
numpydoc_show_class_members = False
autodoc_typehints = "none"
autosummary_generate = True
toc_object_entries_show_parents = "hide"

# MathJax comes from a package, so that a page of formulas needs no network.
mathjax_path = "mathjax/tex-chtml.js"
mathjax3_config = {"options": {"enableMenu": False}}

# The examples in groups, each in the order in which they are read.
GROUPS = {
    "Reduce dimensions": [
        "keras_autoencoder",
        "first_steps",
        "pipeline",
        "grid_search",
        "how_many_components",
        "loadings",
        "displays",
        "denoising",
    ],
    "Densities and new samples": [
        "deep_generative_model",
        "sampling",
        "density",
        "anomalies",
        "missing_values",
        "business_table",
    ],
    "Images, text, sound": ["images", "text", "sound"],
    "Your own layers, large data": ["own_net", "callbacks", "larger_than_memory"],
}
LESSONS = [lesson for lessons in GROUPS.values() for lesson in lessons]

sphinx_gallery_conf = {
    "examples_dirs": "examples",
    "gallery_dirs": "gallery",
    "within_subsection_order": ExplicitOrder([f"plot_{lesson}.py" for lesson in LESSONS]),  # all, or an error
    "abort_on_example_error": False,
    "only_warn_on_example_error": True,  # and -W makes an error of it, once all scripts have run
    "show_memory": False,
    "write_computation_times": False,  # its page fetches scripts from elsewhere
    "download_all_examples": False,
    "doc_module": ("skae",),
    "backreferences_dir": "gallery/backreferences",
    "image_scrapers": ("matplotlib",),
    "nested_sections": False,
    "capture_repr": (),  # what a script prints is what it says
}

html_theme = "pydata_sphinx_theme"
html_title = "skae"
html_static_path = ["_static"]
html_css_files = ["skae.css"]
html_js_files = ["skae.js"]
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {
    "navbar_align": "left",
    "show_prev_next": True,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "search_bar_text": "Search",
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
    "header_links_before_dropdown": 5,
}
# Pages without pages below them have no section navigation.
ALONE = ["index", "whats-new", "contributing", "coming-from", "coming-from-generators", "promises"]
html_sidebars = {page: [] for page in ALONE}


def to_pages(text):
    """Markdown whose links to scripts and results, right in the repository, lead to the site's pages of these."""
    text = re.sub(r"\]\((?:\.\./|docs/)*examples/(\w+)\.py\)", r"](/gallery/\1.rst)", text)
    text = re.sub(r"\]\((?:\.\./)*(?:benchmarks/)?notes/([\w-]+)\.md(#[\w-]+)?\)", r"](/results/notes/\1.md\2)", text)
    text = re.sub(r"\]\((?:\.\./)?CONTRIBUTING\.md\)", "](/contributing.md)", text)
    text = re.sub(r"\[([^\]]+)\]\(report\.py\)", r'<a href="_static/sample-report.html">\1</a>', text)
    return re.sub(r"\]\((?:\.\./)*(?:benchmarks/)?results/([\w-]+)\.md(#[\w-]+)?\)", r"](/results/\1.md\2)", text)


def copy_mathjax(app, exception):
    """Copy MathJax and its fonts into the built site."""
    package = Path(find_spec("sphinx-mathjax-offline").submodule_search_locations[0], "static/mathjax")
    static = Path(app.outdir, "_static/mathjax")
    fonts = "output/chtml/fonts"
    shutil.copytree(package / fonts, static / fonts, dirs_exist_ok=True)
    shutil.copy(package / "tex-chtml.js", static)


def write_report(app, exception):
    """Write the sample report to which the page on `compare` links."""
    if exception is None:
        report.write(Path(app.outdir, "_static/sample-report.html"))


def copy_results():
    """Pages of the benchmarks' results and of the notes about them, and figures of them."""
    benchmarks, results = HERE.parent / "benchmarks", HERE / "results"
    shutil.rmtree(results, ignore_errors=True)
    results.mkdir()
    for page in sorted(benchmarks.glob("results/*.md")):
        (results / page.name).write_text(page.read_text())
    shutil.copytree(benchmarks / "notes", results / "notes")
    figures.draw(benchmarks / "results", results)
    figures.draw_displays((HERE / "guide/figures.md").read_text(), results)


def group(gallery):
    """Put a heading above the first example of each group, in the page that sphinx-gallery wrote."""
    for title, lessons in GROUPS.items():
        thumbnail = (
            rf"""\.\. raw:: html\n\n    <div class="sphx-glr-thumbcontainer"[^>]*>(?=[^<]*_{lessons[0]}_thumb\.png)"""
        )
        heading = f"""\
.. raw:: html

    </div>

{title}
{"-" * len(title)}

.. raw:: html

    <div class="sphx-glr-thumbnails">

"""
        gallery, found = re.subn(thumbnail, lambda match, heading=heading: heading + match[0], gallery)
        assert found == 1, title
    return gallery


def read_page(app, docname, source):
    source[0] = group(source[0]) if docname == "gallery/index" else to_pages(source[0])


def read_included(app, path, docname, source):
    source[0] = to_pages(source[0])


def escape_shapes(app, what, name, member, options, lines):
    """A name that ends in an underscore, in a shape, is no reference."""
    lines[:] = [re.sub(r"_(?=[,)])", r"\\_", line) if "of shape (" in line else line for line in lines]


def skip_member(app, what, name, member, skip, options):
    """Leave out what scikit-learn gives to all its estimators, documented there."""
    return True if (getattr(member, "__module__", None) or "").startswith("sklearn.") else None


def setup(app):
    copy_results()
    app.connect("source-read", read_page)
    app.connect("autodoc-process-docstring", escape_shapes, priority=400)  # before numpydoc reads it
    app.connect("autodoc-skip-member", skip_member)
    app.connect("include-read", read_included)
    app.connect("build-finished", copy_mathjax)
    app.connect("build-finished", write_report)
