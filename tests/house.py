"""Measure the package against the limits of house.toml: `make house` prints a table and fails if one is exceeded.

Code lines are those that hold a token of code: no docstrings, comments or blank lines. The longest class is counted
with comments and blank lines, less the docstrings of it and its methods.
"""

import ast
import inspect
import io
import sys
import textwrap
import tokenize
import tomllib
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from rooms import MODULES, arrows_back, modules_in_circles
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin

import skae

LIMITS = tomllib.loads((Path(__file__).parent / "house.toml").read_text())
NOT_CODE = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef
SUBCLASSES = skae.AutoencoderTransformer, skae.VAEGenerator
TREES = {module: ast.parse(path.read_text()) for module, path in MODULES.items()}


def nodes(*kinds):
    """All nodes of these kinds, each with its module."""
    return [(module, node) for module, tree in TREES.items() for node in ast.walk(tree) if isinstance(node, kinds)]


def docstring_lines(tree):
    """Line numbers of all docstrings at and below a node."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | FUNCTIONS) and ast.get_docstring(node, clean=False) is not None:
            found |= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    return found


def code_lines(module):
    """Line numbers that hold code."""
    found = set()
    for token in tokenize.generate_tokens(io.StringIO(MODULES[module].read_text()).readline):
        if token.type not in NOT_CODE:
            found |= set(range(token.start[0], token.end[0] + 1))
    return found - docstring_lines(TREES[module])


CODE = {module: code_lines(module) for module in MODULES}


def longest_class():
    """Lines from its first to its last, less docstrings."""
    sizes = [
        (node.end_lineno - node.lineno + 1 - len(docstring_lines(node)), node.name) for _, node in nodes(ast.ClassDef)
    ]
    return max(sizes)


def longest_function():
    """Code lines of its body, its name and parameters left out."""
    return max(
        (len(CODE[module] & set(range(node.body[0].lineno, node.end_lineno + 1))), f"{module}.{node.name}")
        for module, node in nodes(ast.FunctionDef, ast.AsyncFunctionDef)
    )


def linked_names():
    """Private names that link base and subclasses: hooks, shared state, and helpers.

    Hooks are methods and class attributes that a subclass defines and the base uses, or another module of the package,
    which gets the estimator from it. Shared state is what the base stores in the instance and a subclass uses. Helpers
    are further methods and class attributes of the base that a subclass uses. The base is every class of skae that both
    estimators inherit from; dunder names are Python's and scikit-learn's.
    """
    ours = [{parent for parent in cls.__mro__ if parent.__module__.startswith("skae")} for cls in SUBCLASSES]
    base, sub = set.intersection(*ours), set.union(*ours) - set.intersection(*ours)
    of_subclasses = {cls.__module__ for cls in sub}
    base, sub = names_of(base), names_of(sub)
    elsewhere = {node.attr for module, node in nodes(ast.Attribute) if f"skae.{module}" not in of_subclasses}
    hooks = (base["used"] | elsewhere) & sub["defined"]
    state = base["stored"] & (sub["used"] | sub["stored"])
    return hooks, state - hooks, base["defined"] & sub["used"] - hooks


def names_of(classes):
    """Private names that these classes define in their bodies, use (read or call) and store as attributes."""
    found = {"defined": set(), "used": set(), "stored": set()}
    for cls in classes:
        tree = ast.parse(textwrap.dedent(inspect.getsource(cls)))
        found["defined"] |= set(vars(cls))
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute):
                found["stored" if isinstance(node.ctx, ast.Store) else "used"].add(node.attr)
    return {kind: {name for name in names if name[0] == "_" and name[:2] != "__"} for kind, names in found.items()}


def names_of_a_subclass():
    hooks, state, _ = linked_names()
    return len(hooks | state), f"{len(hooks)} hooks, {len(state)} of state"


def isinstance_calls():
    return sum(ast.unparse(node.func) == "isinstance" for _, node in nodes(ast.Call)), ""


def design_and_plan():
    """Attributes and keys ``_design`` and ``_plan``, and subscripts of variables that hold either."""
    names = {"_design", "_plan"}
    found = sum(node.attr in names for _, node in nodes(ast.Attribute))
    found += sum(node.value in names for _, node in nodes(ast.Constant) if isinstance(node.value, str))
    return found + sum(ast.unparse(node.value) in ("design", "plan") for _, node in nodes(ast.Subscript)), ""


def fitted_estimators():
    """Small fits of every kind of estimator."""
    rng = np.random.RandomState(0)
    X, y = rng.normal(size=(60, 4)), np.repeat(["a", "b"], 30)
    table = pd.DataFrame({"size": X[:, 0], "colour": rng.choice(["red", "blue"], 60), "whole": rng.poisson(3, 60)})
    plain = {"max_iter": 2, "random_state": 0}
    vae, autoencoder = skae.VAEGenerator, skae.AutoencoderTransformer
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield "plain", autoencoder(**plain).fit(X)
        yield "ordered", autoencoder(3, ordered=True, **plain).fit(X)
        yield "plain", vae(**plain).fit(X)
        yield "ordered", vae(3, ordered=True, **plain).fit(X)
        yield "conditional", vae(conditional=True, **plain).fit(X, y)
        yield "mixed", vae(likelihood="auto", **plain).fit(table)
        yield "mixture", vae(prior="mixture", **plain).fit(X)


def private_fitted_attributes():
    """Names in ``vars`` that begin with an underscore and are neither a parameter nor scikit-learn's."""
    theirs = {"_sklearn_output_config", "_metadata_request"}
    found = []
    for kind, model in fitted_estimators():
        private = {name for name in vars(model) if name.startswith("_")} - theirs
        found.append((len(private), f"{type(model).__name__}, {kind}"))
    return max(found)


def code_lines_of_the_package():
    return sum(map(len, CODE.values())), ""


def import_circles():
    found = modules_in_circles()
    return len(found), ", ".join(found)


def imports_against_the_map():
    found = [f"{module} -> {target}" for module in MODULES for target in arrows_back(module)]
    return len(found), ", ".join(found)


FIGURES = {
    "longest_class": longest_class,
    "longest_function": longest_function,
    "names_of_a_subclass": names_of_a_subclass,
    "isinstance_calls": isinstance_calls,
    "design_and_plan": design_and_plan,
    "private_fitted_attributes": private_fitted_attributes,
    "code_lines": code_lines_of_the_package,
    "import_circles": import_circles,
    "arrows_back": imports_against_the_map,
}


def members():
    """Names that skae's own classes give a VAE, or its fit stores, dunder names left out."""
    theirs = set(dir(ClassNamePrefixFeaturesOutMixin)) | set(dir(TransformerMixin)) | set(dir(BaseEstimator))
    return {name for name in dir(skae.VAEGenerator) if not name.startswith("__")} - theirs


def main():
    measured = {name: figure() for name, figure in FIGURES.items()}
    print("| figure | now | at most | goal | where |\n|---|---|---|---|---|")
    for name, (value, where) in measured.items():
        limit = LIMITS[name]
        print(f"| {limit['text']} | {value:,} | {limit['limit']:,} | {limit['goal']:,} | {where} |")
    print(f"\nMembers that skae gives a VAE: {len(members())} (goal: 50).")
    print(f"Helpers of the base that subclasses use: {len(linked_names()[2])}.")
    exceeded = [name for name, (value, _) in measured.items() if value > LIMITS[name]["limit"]]
    if exceeded:
        sys.exit(f"Above the limit of tests/house.toml: {', '.join(exceeded)}.")


if __name__ == "__main__":
    main()
