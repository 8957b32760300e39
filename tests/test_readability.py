"""Pages can be read: they and their sentences are short, and they use the terms of the field."""

import ast
import functools
import inspect
import re
import statistics

import numpy as np
import pytest
from test_docs import EXAMPLES, PAGES, ROOT, public_objects

import skae

NOTES = sorted((ROOT / "benchmarks/notes").glob("*.md"))
MOST_WORDS = 900
MEDIAN, LONGEST = 17, 32  # words of a sentence: the median, and the 95 % quantile
LISTS = {"CHANGELOG.md", "docs/contributing.md", "docs/whats-new.md"}  # a list of changes; pages that include another
READ = [page for page in PAGES if page not in LISTS]
SHORT = [page for page in READ if page in ("README.md", "CONTRIBUTING.md") or page.startswith("docs/")]

# Phrases that are wrong or private to this project, and what to write. Code and addresses of links are left out.
RETIRED = {
    r"\bgaps?\b": "missing values",
    r"\b(held-out|training|test|new|validation) rows?\b": "samples",
    r"\bnats a row\b": "nats a sample",
    r"\brows? (that|which|it|they) (has|have|had) not seen\b": "held-out samples",
    r"\b(the|its|which|rows that|who) judges?\b": "validation set, validation loss",
    r"\brows? (find|favour|tell|say)s?\b": "the validation loss decides, records or reports",
    r"\b(told|tells|says) in units of\b|\bin units of its\b": "scaled by, expressed in",
    r"\bas ever\b": "say what it does",
    r"\bby heart\b": "overfits",
    r"\b(anything|nothing) (had )?to do with\b": "independent",
    r"\brivals?\b|\bpeers?\b": "baseline, alternative",
    r"\b(asked|missed|met):": "target, not reached, reached",
    r"\bof so many numbers\b|\bnumbers (a|in a|of a) (code|row|image|frame)\b": "n_components, latent dimension",
    r"\berrs? by\b": "has an error of",
    r"\bcolumn plans?\b|\bplan of columns\b": "table schema",
    r"\b(a|the) share of defence\b": "defensive mixture",
    r"\beach rank\b|\branks? (that|which|agree)": "processes",
    r"\bmade[- ]up (rows|samples)\b": "new samples, synthetic samples",
    r"\bwhat is given\b|\bbeside what\b": "context, conditional on",
}


def prose(page):
    """The text of a page without code, comments and directives."""
    text = re.sub(r"<!--.*?-->", "", (ROOT / page).read_text(), flags=re.S)
    text = re.sub(r"^ *(```|:::).*?^ *\1`*$|\$\$.*?\$\$", "\n", text, flags=re.S | re.M)
    return re.sub(r"^(?: {4,}.*\n)+", "\n", text, flags=re.M)


def plain(text):
    """Text with links as their words, and code and formulas as one word each."""
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    return re.sub(r"`[^`]*`|\$[^$]*\$", "code", text)


def sentences(page):
    """Sentences of paragraphs and lists, as numbers of words; tables and headings have none."""
    text = plain(re.sub(r"^(#|\|).*$", "\n", prose(page), flags=re.M))
    blocks = re.split(r"\n\s*\n|^\s*(?:[-*]|\d+\.)\s", text, flags=re.M)
    found = [sentence for block in blocks for sentence in re.split(r"(?<=[.!?])\s+", block.replace("*", ""))]
    return [len(sentence.split()) for sentence in found if len(sentence.split()) > 2]


def test_sentences_are_counted(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "# A title that is no sentence\n\nOne two three. Four [five six](x.md) `seven and more`!\n\n- Eight nine ten.\n"
    )
    assert sentences(page) == [3, 4, 3]


@pytest.mark.parametrize("page", SHORT)
def test_pages_are_short(page):
    assert len(prose(page).replace("|", " ").split()) <= MOST_WORDS


@pytest.mark.parametrize("page", READ)
def test_sentences_are_short(page):
    words = sentences(page)
    if len(words) > 3:  # not a table with a line above it
        assert statistics.median(words) <= MEDIAN
        assert np.quantile(words, 0.95) <= LONGEST


@pytest.mark.parametrize("page", [*READ, "CHANGELOG.md"])
def test_pages_use_the_terms_of_the_field(page):
    text = " ".join(plain(prose(page)).split())
    found = [
        f"{match[0]!r}: write {better}" for bad, better in RETIRED.items() for match in re.finditer(bad, text, re.I)
    ]
    assert not found


@pytest.mark.parametrize(
    "sentence",
    [
        "The rows that judge have gaps.",
        "Codes are told in units of X.",
        "As ever, the held-out rows decide.",
        "It errs by 36 % of PCA's, as if nothing had anything to do with anything else.",
        "The best rival learns it by heart.",
    ],
)
def test_retired_phrases_are_found(sentence):
    assert any(re.search(bad, sentence, re.I) for bad in RETIRED)


def test_terms_link_to_the_glossary_where_the_guide_uses_them_first():
    terms = re.findall(r"^## (.+)$", (ROOT / "docs/glossary.md").read_text(), flags=re.M)
    assert terms == sorted(terms, key=str.lower)
    linked = "".join((ROOT / page).read_text() for page in PAGES)
    for term in ("Code", "ELBO", "Nat", "Likelihood", "Latent dimension", "Defensive mixture", "Prior"):
        assert term in terms
        assert f"glossary.md#{term.lower().replace(' ', '-')}" in linked


@pytest.mark.parametrize("note", NOTES, ids=lambda path: path.stem)
def test_a_note_is_a_question_with_a_decision_in_under_300_words(note):
    text = note.read_text()
    assert len(re.sub(r"[|*#]|-{3,}", " ", text).split()) < 300
    assert re.match(r"# .+\?\n", text)
    assert "**Design**" in text
    assert "**Decision.**" in text


@pytest.mark.parametrize("page", sorted((ROOT / "benchmarks/results").glob("*.md")), ids=lambda path: path.stem)
def test_results_begin_with_what_was_measured(page):
    title, _, question, *_ = page.read_text().splitlines()
    assert title.startswith("# ")
    assert re.match(r"[A-Z].{60,}\.$", question)
    assert not question.startswith("Written by")


def words(text):
    """The words of a docstring, or of another text in the code, without identifiers and addresses."""
    return " ".join(re.sub(r"`+[^`]+`+", "code", text).split())


@pytest.mark.parametrize("path", sorted((ROOT / "skae").rglob("*.py")), ids=lambda path: path.stem)
def test_docstrings_and_messages_use_the_terms_of_the_field(path):
    nodes = ast.walk(ast.parse(path.read_text()))
    texts = [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    texts += re.findall(r"# (.+)$", path.read_text(), flags=re.M)
    assert not [match[0] for text in texts for bad in RETIRED for match in re.finditer(bad, words(text), re.I)]


def paragraphs(docstring):
    """Paragraphs and entries of a docstring, which end where the indentation changes; no examples and references."""
    text = re.sub(r"^ *>>>.*\n(?: *[^\s].*\n)*", "\n", docstring + "\n", flags=re.M)
    text = re.sub(r"^( *)References\n.*?(?=^\1\w|\Z)", "\n", text, flags=re.M | re.S)
    lines, indents = [], []
    for line in text.splitlines():
        indent, is_item = len(line) - len(line.lstrip()), re.match(r"\s*(- |-{3,}|[\w*, ]+ : )", line)
        if line.strip() and indents and indent == indents[-1] and not is_item:
            lines[-1] += f" {line.strip()}"
        elif line.strip():
            lines.append(line.strip())
        indents = [*indents, indent + 2 * line.lstrip().startswith("- ")] if line.strip() else []
    return lines


@pytest.mark.parametrize("name", list(public_objects()))
def test_sentences_of_public_docstrings_are_short(name):
    found = [
        sentence
        for paragraph in paragraphs(inspect.getdoc(functools.reduce(getattr, name.split(".")[1:], skae)))
        for sentence in re.split(r"(?<=[.!?:])\s+", words(paragraph))
    ]
    assert not [sentence for sentence in found if len(sentence.split()) > LONGEST]


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda path: path.stem)
def test_examples_use_the_terms_of_the_field(script):
    text = script.read_text()
    prose = plain(" ".join([ast.get_docstring(ast.parse(text)), *re.findall(r"^# (?!%%)(.+)$", text, flags=re.M)]))
    assert not [match[0] for bad in RETIRED for match in re.finditer(bad, prose, re.I)]
