"""Mutation testing: is every line of the mathematics held by a test?

Each mutant is a module of three rooms, `linear`, `objectives` and `networks`, with one small change: an operator, a
bound, a call left out. It is held if a test that runs the changed line fails. `make mutants` tries them all and lists
those that nothing holds; `MUTANTS.md` says why each of these does no harm.

Run are the three rooms' own tests and doctests, which take seconds together: mathematics that only a fitted
estimator holds would be held by luck. They are collected once, and each is run once to note its lines and its seconds.
Then a forked process for each mutant gives the changed function its new code and runs the tests of its line, the
quickest first. No file is written and nothing imported twice. Forking asks for Linux or macOS.
"""

import argparse
import ast
import copy
import gc
import hashlib
import inspect
import os
import pickle
import signal
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import pytest
import torch

import skae

TESTS, ROOT = Path(__file__).parent, Path(skae.__file__).parent
ROOMS = "linear", "objectives", "networks"
SOURCES = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py")) if path.stem != "__init__"]
MODULES = [path.relative_to(ROOT).with_suffix("").as_posix() for path in SOURCES]
FILES = [path for room in ROOMS for path in sorted((TESTS / room).glob("test_*.py"))] + SOURCES

OPERATORS = "Add Sub, Mult Div, FloorDiv Mult, Mod FloorDiv, Pow Mult, BitAnd BitOr, BitXor BitOr, RShift LShift, "
OPERATORS += "Lt LtE, Gt GtE, Eq NotEq, Is IsNot, In NotIn"
SWAPS = "min max, minimum maximum, argmin argmax, nanmin nanmax, zeros ones, any all"


def both_ways(pairs):
    pairs = [pair.split() for pair in pairs.split(", ")]
    return {b: a for a, b in pairs} | dict(pairs)


OPERATORS = {getattr(ast, a): getattr(ast, b) for a, b in both_ways(OPERATORS).items()}
SWAPS = both_ways(SWAPS)
SURVIVED = 7  # the exit status of a process in which no test failed
TOO_LONG = 30  # seconds, of an endless loop
LIBRARIES = {"torch", "np", "nn", "F", "math"}


def variants(node):
    """What may stand in place of a node; None leaves a statement out."""
    match node:
        case ast.Constant(value=bool(value)):
            yield ast.Constant(not value)
        case ast.Constant(value=int(value)):
            yield ast.Constant(value + 1)
        case ast.Constant(value=float(value)):
            yield ast.Constant(2 * value if value else 1.0)
        case ast.BinOp() | ast.AugAssign() if type(node.op) in OPERATORS:
            yield changed(node, op=OPERATORS[type(node.op)]())
        case ast.UnaryOp():
            yield node.operand
        case ast.Compare() if type(node.ops[0]) in OPERATORS:
            yield changed(node, ops=[OPERATORS[type(node.ops[0])](), *node.ops[1:]])
        case ast.BoolOp():
            for i in range(len(node.values)):
                rest = node.values[:i] + node.values[i + 1 :]
                yield changed(node, values=rest) if len(rest) > 1 else rest[0]
        case ast.If() | ast.IfExp():
            yield changed(node, test=ast.Constant(True))
            yield changed(node, test=ast.Constant(False))
        case ast.While():
            yield changed(node, test=ast.Constant(False))
        case ast.Return(value=ast.expr()):
            yield changed(node, value=ast.Constant(None))
        case ast.Slice():
            yield from (changed(node, **{end: None}) for end in ("lower", "upper", "step") if getattr(node, end))
        case ast.Call():
            for i in range(len(node.keywords)):
                yield changed(node, keywords=node.keywords[:i] + node.keywords[i + 1 :])
            yield from without_call(node)
        case ast.FunctionDef(decorator_list=[ast.Call()]) if "no_grad" in ast.unparse(node.decorator_list):
            yield changed(node, decorator_list=[])
        case ast.Name(id=name) if name in SWAPS:
            yield changed(node, id=SWAPS[name])
        case ast.Attribute(attr=name) if name in SWAPS:
            yield changed(node, attr=SWAPS[name])
    if isinstance(node, ast.AugAssign | ast.Break) or (
        isinstance(node, ast.Expr) and not isinstance(node.value, ast.Constant)
    ):
        yield None
    if isinstance(node, ast.Assign) and not isinstance(node.targets[0], ast.Name | ast.Tuple):
        yield None


def without_call(node):
    """``x`` for ``x.f()`` and for ``torch.f(x)``."""
    if isinstance(node.func, ast.Attribute):
        library = next(n for n in ast.walk(node.func) if isinstance(n, ast.Name | ast.Call))
        if not (isinstance(library, ast.Name) and library.id in LIBRARIES):
            yield node.func.value
        elif node.args and not isinstance(node.args[0], ast.Starred):
            yield node.args[0]


def changed(node, **fields):
    return ast.copy_location(type(node)(**{**dict(ast.iter_fields(node)), **fields}), node)


class Mutant(NamedTuple):
    """One change in a module, which ``tree`` has: in this function or class, in a statement of these ``lines``."""

    module: str
    scope: str
    lines: range
    before: str
    after: str
    tree: ast.Module

    def __str__(self):
        return f"{self.module}.py:{self.lines[0]} {self.scope}: {self.before}  ->  {self.after}"


def mutants(module):
    """All of a module, one after the other: the tree is changed back when the next one is asked for."""
    tree = ast.parse((ROOT / f"{module}.py").read_text())

    def inside(parent, scope, lines):
        for field, value in ast.iter_fields(parent):
            if field in ("annotation", "returns", "bases", "decorator_list") or isinstance(
                parent, ast.Assert | ast.Raise
            ):
                continue
            several = isinstance(value, list)
            for i, node in enumerate(value if several else [value]):
                if not isinstance(node, ast.AST):
                    continue
                if isinstance(node, ast.stmt):
                    body = getattr(node, "body", None)
                    lines = range(node.lineno, body[0].lineno if body else node.end_lineno + 1)
                for variant in variants(node):
                    put = copy.deepcopy(variant) if variant else ast.Pass()
                    ast.copy_location(put, node)
                    setattr(parent, field, [*value[:i], put, *value[i + 1 :]] if several else put)
                    before, after = (ast.unparse(n).split("\n")[0] for n in (node, put))
                    yield Mutant(module, scope, lines or range(node.lineno, node.lineno + 1), before, after, tree)
                    setattr(parent, field, value)
                named = isinstance(node, ast.FunctionDef | ast.ClassDef)
                yield from inside(node, f"{scope}.{node.name}".strip(".") if named else scope, lines)

    return inside(tree, "", None)


def apply(mutant):
    """Give the package, in this process, what the mutant changes."""
    live = sys.modules["skae." + mutant.module.replace("/", ".")]
    fresh = {**vars(live)}
    exec(compile(ast.fix_missing_locations(mutant.tree), live.__file__, "exec"), fresh)
    old, new, owner = live, SimpleNamespace(**fresh), None
    for name in filter(None, mutant.scope.split(".")):
        owner, old, new = old, inspect.getattr_static(old, name), inspect.getattr_static(new, name)
        old, new = (getattr(inspect.unwrap(x), "fget", None) or inspect.unwrap(x) for x in (old, new))
        if inspect.isfunction(old):
            try:
                old.__code__, old.__defaults__, old.__kwdefaults__ = new.__code__, new.__defaults__, new.__kwdefaults__
            except ValueError:  # a call of super() came or went
                setattr(owner, name, new)
            return
    if inspect.isfunction(vars(old).get("__init__")):  # of a dataclass: its fields' defaults
        old.__init__.__defaults__ = new.__init__.__defaults__
    for name, value in vars(new).items():
        if isinstance(value, (int, float, str, tuple, dict)) and not name.startswith("__"):
            before = getattr(old, name)
            for module in [m for key, m in sys.modules.items() if key.startswith("skae.")] if old is live else [old]:
                if vars(module).get(name) is before:
                    setattr(module, name, value)
            if isinstance(value, dict) and old is live:
                before.update(value)
        elif hasattr(vars(old).get(name), "__wrapped__") and not hasattr(value, "__wrapped__"):
            setattr(old, name, inspect.unwrap(vars(old)[name]))


class Mutation:
    """A pytest plugin that tries mutants in place of running tests."""

    def __init__(self, options):
        self.options = options
        self.made, self.left = Counter(), Counter()

    def pytest_runtest_logreport(self, report):
        self.failed |= report.failed

    def pytest_runtestloop(self, session):
        lines, seconds = self.measured(session.items)
        items = sorted(session.items, key=lambda item: seconds.get(item.nodeid, 0))
        for item, following in zip(items, [*items[1:], None], strict=True):
            self.run(item, following)  # what is imported at first use is imported for all
        gc.freeze()  # else a collection in a fork would copy all memory
        running = {}
        for module in self.options.modules:
            for mutant in mutants(module):
                if self.options.only and str(mutant) not in self.options.only:
                    continue
                self.made[module] += 1
                wanted = holders(mutant, lines)
                chosen = [item for item in items if item.nodeid in wanted]
                if len(running) == self.options.jobs:
                    self.wait(running)
                running[fork(lambda m=mutant, c=chosen: self.survives(m, c))] = (
                    module,
                    f"{mutant}  [{len(chosen)} tests]",
                )
        while running:
            self.wait(running)
        return True

    def wait(self, running):
        pid, status = os.wait()
        module, text = running.pop(pid)
        if os.waitstatus_to_exitcode(status) == SURVIVED:
            self.left[module] += 1
            print(text, flush=True)

    def survives(self, mutant, items):
        """In a process of its own: whether all of these tests pass. An endless loop is ended by the alarm."""
        signal.alarm(TOO_LONG)
        apply(mutant)
        for item, following in zip(items, [*items[1:], None], strict=True):
            self.run(item, following)
            if self.failed:
                return 0
        return SURVIVED

    def run(self, item, following=None):
        self.failed = False
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)

    def measured(self, items):
        """Which tests run a line, and the seconds that each takes: kept in a file until a source or a test changes."""
        sources = b"".join(path.read_bytes() for path in [*FILES, *sorted(ROOT.rglob("*.py"))])
        cache = Path(tempfile.gettempdir()) / f"skae-lines-{hashlib.sha256(sources).hexdigest()[:16]}.pickle"
        if not cache.exists():
            paths = sorted({item.path for item in items})
            parts = [Path(f"{cache}.{k}") for k in range(self.options.jobs)]
            for k, part in enumerate(parts):
                some = [item for item in items if paths.index(item.path) % len(parts) == k]
                fork(lambda part=part, some=some: part.write_bytes(pickle.dumps(self.measure(some))) and 0)
            for _ in parts:
                os.wait()
            cache.write_bytes(pickle.dumps([test for part in parts for test in pickle.loads(part.read_bytes())]))
        lines = defaultdict(set)
        tests = pickle.loads(cache.read_bytes())
        for nodeid, hits, _ in tests:
            for hit in hits:
                lines[hit].add(nodeid)
        return lines, {nodeid: seconds for nodeid, _, seconds in tests}

    def measure(self, items):
        """Of each test that passes, its lines and seconds, fixtures included: each is torn down after each test."""
        modules, found = {str(ROOT / f"{name}.py"): name for name in MODULES}, []

        def trace(frame, event, arg):
            module = modules.get(frame.f_code.co_filename)
            if module is None:
                return None
            hits.add((module, frame.f_lineno))
            return trace

        for item in items:
            hits, began = set(), time.perf_counter()
            sys.settrace(trace)
            self.run(item)
            sys.settrace(None)
            if not self.failed:
                found.append((item.nodeid, hits, time.perf_counter() - began))
        return found


def holders(mutant, lines):
    """Tests that run its statement; if none does, as at import, those of its function or of a constant's users."""
    found = set().union(*(lines[mutant.module, line] for line in mutant.lines))
    if found:
        return found
    nodes = list(ast.walk(ast.parse((ROOT / f"{mutant.module}.py").read_text())))
    near = [n for n in nodes if getattr(n, "lineno", None) in mutant.lines]
    names = {n.id for n in near if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    at = {n.lineno for n in nodes if getattr(n, "id", getattr(n, "attr", None)) in names}
    scope = [n for n in nodes if getattr(n, "name", None) == mutant.scope.split(".")[-1]]
    at |= {line for n in scope if not names for line in range(n.lineno, n.end_lineno + 1)}
    return set().union(*(lines[mutant.module, line] for line in at))


def fork(job):
    """Run a job in a process of its own, whose exit status is the result."""
    sys.stdout.flush()
    if pid := os.fork():
        return pid
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(1, 2)
    status = 1
    try:
        status = job()
    finally:
        os._exit(status)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--modules", nargs="+", default=MODULES, choices=MODULES)
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time")
    parser.add_argument("--only", type=Path, help="a list that this printed: try these again")
    options = parser.parse_args()
    if options.only:
        options.only = {line.rsplit("  [", 1)[0] for line in options.only.read_text().splitlines()}
    torch.set_num_threads(1)
    plugin = Mutation(options)
    pytest.main(["-s", "-p", "no:cacheprovider", "-p", "no:terminal", *map(str, FILES)], plugins=[plugin])
    for module in options.modules:
        print(f"{module}: {plugin.made[module]} mutants, {plugin.left[module]} left")


if __name__ == "__main__":
    main()
