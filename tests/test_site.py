"""The site builds without a warning, and a browser that has nothing else can read it."""

import functools
import inspect
import json
import re
import shutil
import subprocess
import sys
import threading
from html import unescape
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote, unquote, urldefrag

import pytest

import skae

ROOT = Path(__file__).parents[1]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
NEEDED = ("sphinx", "myst_parser", "pydata_sphinx_theme", "sphinx_gallery", "numpydoc", "sphinx-mathjax-offline")
AXE = find_spec("axe_core_python")
pytestmark = pytest.mark.slow
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs a browser: Debian's package chromium")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built site, its gallery's scripts not run; what Sphinx writes beside its sources goes with the sources."""
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        pytest.skip(f"needs {', '.join(missing)}: pip install -e '.[docs]'")
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(
        ROOT / "docs", folder / "docs", ignore=shutil.ignore_patterns("_build", "api", "gallery", "results")
    )
    for beside in ("benchmarks", "tests"):  # of which pages show files
        (folder / beside).symlink_to(ROOT / beside)
    for page in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md"):
        shutil.copy(ROOT / page, folder)
    command = [sys.executable, "-m", "sphinx", "-b", "html", "-W", "--keep-going", "-q", "-D", "plot_gallery=0"]
    built = subprocess.run([*command, "docs", "html"], cwd=folder, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return folder / "html"


class Links(HTMLParser):
    """What a page refers to, and what in it can be referred to."""

    def __init__(self, page):
        super().__init__()
        self.targets, self.anchors = [], {""}
        self.feed(page.read_text())

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.targets += [attributes[key] for key in ("href", "src") if attributes.get(key)]
        self.anchors |= {attributes.get("id"), attributes.get("name")}


def pages(site):
    found = (page.relative_to(site) for page in sorted(site.rglob("*.html")))
    return {page.as_posix(): Links(site / page) for page in found if page.parts[0] != "_static"}


def test_no_link_inside_the_site_is_dead(site):
    found = pages(site)
    assert len(found) > 30
    dead = []
    for name, page in found.items():
        for target in page.targets:
            if re.match(r"[a-z]+:|//", target):
                continue
            path, anchor = urldefrag(unquote(target))
            path = path.split("?")[0]
            file = (site / name).parent / path if path else site / name
            file = file / "index.html" if file.is_dir() else file
            there = file.resolve().relative_to(site.resolve()).as_posix() if file.exists() else None
            if there is None or (there in found and anchor not in found[there].anchors):
                dead.append(f"{name} -> {target}")
    assert not dead


def test_nothing_is_fetched_from_elsewhere(site):
    """Links may lead away; scripts, styles, pictures and fonts may not."""
    fetched = re.compile(
        r"<(?:script|img|iframe)[^>]*\ssrc=\"(?:https?:)?//|<link[^>]*stylesheet[^>]*href=\"(?:https?:)?//"
    )
    assert not [page for page in pages(site) if fetched.search((site / page).read_text())]


def test_the_reference_has_every_public_name_and_method(site):
    index = (site / "api.html").read_text()
    for name in set(skae.__all__) - {"__version__", "TRUSTED_TYPES"}:  # which have no page
        assert f'href="api/skae.{name}.html' in index, name
        page, thing = (site / f"api/skae.{name}.html").read_text(), getattr(skae, name)
        for method, value in inspect.getmembers(thing, callable) if inspect.isclass(thing) else []:
            if not method.startswith("_") and value.__module__.startswith("skae"):
                assert f'id="skae.{name}.{method}"' in page, f"{name}.{method}"


def test_every_script_has_a_page_in_the_gallery(site):
    scripts = {path.stem for path in (ROOT / "docs/examples").glob("plot_*.py")}
    assert len(scripts) >= 12
    assert scripts == {path.stem for path in (site / "gallery").glob("plot_*.html")}


@pytest.mark.filterwarnings("ignore:FigureCanvasAgg is non-interactive")
def test_the_notebook_of_the_first_steps_runs(site):
    pytest.importorskip("matplotlib").use("agg")
    (notebook,) = site.rglob("plot_first_steps.ipynb")
    cells = [cell["source"] for cell in json.loads(notebook.read_text())["cells"] if cell["cell_type"] == "code"]
    names = {}
    for cell in cells:
        exec("".join(cell), names)
    assert names["errors"][names["autoencoder"]] < names["errors"][names["pca"]]


# In the browser. A page of our own opens pages of the site in a frame of a phone's or a desk's width, measures them
# there, and writes down what it found, which is read from its text.
WALK = """<!doctype html><pre id="found"></pre><iframe id="frame" width="{width}" height="800"></iframe><script>
const found = [], errors = window.errors = [], frame = document.getElementById('frame')
localStorage.setItem('mode', '{mode}'); localStorage.setItem('theme', '{mode}')
const sleep = ms => new Promise(done => setTimeout(done, ms))
const numbers = text => (text.match(/[\\d.]+/g) || []).map(Number)
const linear = c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4
const lightness = colour => colour.slice(0, 3).map(c => linear(c / 255))
  .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0)
function background(element) {{
  for (; element; element = element.parentElement) {{
    const colour = numbers(frame.contentWindow.getComputedStyle(element).backgroundColor)
    if (colour.length === 3 || colour[3] > 0.5) return colour
  }}
  return [255, 255, 255]
}}
function contrasts() {{
  const page = frame.contentDocument, worst = {{ratio: 99}}
  const walker = page.createTreeWalker(page.querySelector('main') || page.body, NodeFilter.SHOW_TEXT)
  while (walker.nextNode()) {{
    const element = walker.currentNode.parentElement, text = walker.currentNode.data.trim()
    if (!text || !element.checkVisibility() || element.closest('script, style, button, .headerlink')) continue
    const style = frame.contentWindow.getComputedStyle(element), box = element.getBoundingClientRect()
    if (!box.width || style.opacity < 1 || style.visibility === 'hidden') continue
    const [a, b] = [lightness(numbers(style.color)), lightness(background(element))]
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)
    if (ratio < worst.ratio) Object.assign(worst, {{ratio, text: text.slice(0, 40), color: style.color}})
  }}
  return worst
}}
function clipped() {{
  const page = frame.contentDocument, range = page.createRange(), found = []
  const walker = page.createTreeWalker(page.querySelector('main') || page.body, NodeFilter.SHOW_TEXT)
  while (walker.nextNode()) {{
    const element = walker.currentNode.parentElement, text = walker.currentNode.data.trim()
    if (!text || !element.checkVisibility() || element.closest('script, style, button, {scrolled}')) continue
    range.selectNodeContents(walker.currentNode)
    if (range.getBoundingClientRect().right > {width}) found.push(text.slice(0, 40))
  }}
  return found
}}
function copied() {{
  const selection = frame.contentWindow.getSelection()
  return [...frame.contentDocument.querySelectorAll('pre:has(.gp):not(:has(.gt))')].map(program => {{
    selection.selectAllChildren(program)
    return String(selection)
  }})
}}
async function audit(page) {{
  const script = page.createElement('script')
  script.src = '/axe.min.js'
  await new Promise(done => {{ script.onload = done; page.head.append(script) }})
  const result = await frame.contentWindow.axe.run(page, {{resultTypes: ['violations']}})
  return result.violations.map(fault => fault.id + ': ' + fault.nodes[0].html.slice(0, 99))
}}
async function walk() {{
  for (const path of {paths}) {{
    await new Promise(done => {{ frame.onload = done; frame.src = path }})
    await sleep({wait})
    const page = frame.contentDocument, main = page.querySelector('main')
    found.push({{path, title: page.title, width: page.documentElement.scrollWidth, contrast: contrasts(),
      faults: {audit} ? await audit(page) : [],
      copied: copied(), text: main.innerText.length, clipped: clipped(), dark: page.documentElement.dataset.theme,
      results: [...page.querySelectorAll('ul.search li > a')].map(a => a.getAttribute('href'))}})
  }}
  document.getElementById('found').textContent = JSON.stringify({{found, errors}})
  document.title = 'done'
}}
walk()
</script>"""


# Comes first in every page of the site: what the console would show in red goes to the page around it.
LISTEN = b"""<head><script>
const tell = text => parent.errors?.push(location.pathname + ': ' + text)
addEventListener('error', e => tell(e.message || 'not loaded: ' + (e.target.src || e.target.href)), true)
addEventListener('unhandledrejection', e => tell(e.reason))
console.error = (...told) => tell(told.join(' '))
</script>"""


# What scrolls in a box of its own, or stands beside the page.
SCROLLED = "pre, table, .math, .headerlink, nav, .prev-next-area"
FLAGS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
FLAGS += ["--disable-background-networking", "--window-size=1300,900", "--virtual-time-budget=600000", "--dump-dom"]


class Server(SimpleHTTPRequestHandler):
    """Files of the site, with ears; `refused` is what was asked for in vain."""

    refused = []

    def do_GET(self):
        file = Path(self.translate_path(self.path))
        if file.suffix != ".html" or not file.exists():
            super().do_GET()
            return
        page = file.read_bytes().replace(b"<head>", LISTEN, 1)
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    def log_error(self, *args):
        self.refused.append(self.path)

    def log_request(self, *args):
        pass


@pytest.fixture(scope="module")
def browse(site, tmp_path_factory):
    """A function from pages to what a browser finds in each; it fails if the browser's console has an error."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Server, directory=site))
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def browse(paths, *, width=1200, mode="light", wait=150, audit=False):
        (site / "walk.html").write_text(
            WALK.format(
                paths=json.dumps(paths), width=width, mode=mode, wait=wait, scrolled=SCROLLED, audit=json.dumps(audit)
            )
        )
        profile = tmp_path_factory.mktemp("profile")
        done = subprocess.run(
            [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", f"http://127.0.0.1:{server.server_port}/walk.html"],
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        (site / "walk.html").unlink()
        told = re.search(r'<pre id="found">(.+?)</pre>', done.stdout, flags=re.S)
        assert told, done.stderr
        told = json.loads(unescape(told.group(1)))
        refused, Server.refused[:] = [path for path in Server.refused if path != "/favicon.ico"], []
        assert not told["errors"] + refused
        return told["found"]

    yield browse
    server.shutdown()
    server.server_close()


@needs_chromium
@pytest.mark.parametrize(
    "fault", ["<script>console.error('no')</script>", "<script>nothing()</script>", "<img src='gone.png'>"]
)
def test_an_error_in_a_page_would_be_noticed(site, browse, fault):
    (site / "faulty.html").write_text(f"<html><head></head><body><main>{fault}</main></body></html>")
    try:
        with pytest.raises(AssertionError, match=r"faulty\.html"):
            browse(["faulty.html"])
    finally:
        (site / "faulty.html").unlink()


def paths(site):
    return [name for name in pages(site) if name != "search.html"]


@needs_chromium
@pytest.mark.parametrize("mode", ["light", "dark"])
def test_pages_open_without_an_error_and_are_legible(site, browse, mode):
    """Text has a contrast of at least 4.5, the bar of the Web Content Accessibility Guidelines (AA)."""
    found = browse(paths(site), mode=mode)
    assert len(found) == len(paths(site))
    assert all(page["title"] and page["text"] > 50 and page["dark"] == mode for page in found)
    assert not [page for page in found if page["contrast"]["ratio"] < 4.5]


@needs_chromium
def test_pages_fit_a_phone(site, browse):
    found = browse(paths(site), width=390)
    assert not [(page["path"], page["width"]) for page in found if page["width"] > 390]
    assert not {text for page in found for text in page["clipped"]}


@needs_chromium
def test_programs_are_copied_without_prompts_and_output(site, browse):
    """The programs that end in an error are left out: its text is copied, too."""
    found = browse([path for path in paths(site) if path == "index.html" or path.startswith("guide/")])
    programs = [program for page in found for program in page["copied"]]
    assert len(programs) > 20
    for program in programs:
        compile(program, program, "exec")


@pytest.fixture
def audit(site, browse):
    """A function from pages to the faults that axe finds in each."""
    if AXE is None:
        pytest.skip("needs axe: pip install -e '.[dev]'")
    shutil.copy(Path(AXE.submodule_search_locations[0], "axe.min.js"), site)
    return lambda paths: {page["path"]: page["faults"] for page in browse(paths, audit=True)}


@needs_chromium
def test_a_link_without_a_text_would_be_noticed(site, audit):
    (site / "faulty.html").write_text("<html><head></head><body><main><a href='index.html'></a></main></body></html>")
    try:
        assert "link-name" in str(audit(["faulty.html"]))
    finally:
        (site / "faulty.html").unlink()


@needs_chromium
def test_pages_are_accessible(site, audit):
    """Axe finds no fault in the guide, the reference and a page of each other kind."""
    kinds = ["index.html", "guide.html", "gallery/index.html", "gallery/plot_first_steps.html", "results/speed.html"]
    kinds += ["mathematics.html", "coming-from.html", "pca-or-autoencoder.html", "measurements.html", "whats-new.html"]
    chosen = [path for path in paths(site) if path in kinds or path.startswith(("guide/", "api/"))]
    found = audit(chosen)
    assert len(found) > 40
    assert not {path: faults for path, faults in found.items() if faults}


@needs_chromium
@pytest.mark.parametrize("name", ["AutoencoderTransformer", "VAEGenerator"])
def test_the_search_finds_both_estimators(browse, name):
    (page,) = browse([f"search.html?q={quote(name)}"], wait=8000)
    assert any(f"skae.{name}.html" in result for result in page["results"]), page["results"]


@needs_chromium
@pytest.mark.parametrize(
    ("words", "page"),
    [
        ("VAE", "guide/vae.html"),
        ("anomaly", "guide/anomalies.html"),
        ("outliers", "guide/anomalies.html"),
        ("impute", "guide/impute.html"),
        ("latent size", "guide/components.html"),
        ("synthetic data", "guide/generate.html"),
        ("convolution", "guide/images.html"),
        ("GPU", "guide/processes.html"),
        ("ONNX", "guide/deploy.html"),
        ("UMAP", "coming-from.html"),
        ("CSV classifier", "guide/mixed.html"),
        ("threshold", "guide/anomalies.html"),
        ("memmap", "guide/large.html"),
        ("custom likelihood", "guide/objectives.html"),
        ("custom layers", "guide/networks.html"),
        ("load model", "guide/deploy.html"),
    ],
)
def test_the_search_finds_what_people_type(browse, words, page):
    (found,) = browse([f"search.html?q={quote(words)}"], wait=8000)
    assert any(page in result for result in found["results"]), found["results"]


@needs_chromium
def test_the_search_finds_nothing_where_there_is_nothing(browse):
    (page,) = browse(["search.html?q=xyzzyplugh"], wait=8000)
    assert not page["results"]
