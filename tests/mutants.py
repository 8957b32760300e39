"""Mutation testing: is every line of the mathematics held by a test?

Each mutant is one of the four modules with one small change: an operator, a bound, a call left out. It is held if a
test that runs the changed line fails. `make mutants` makes them all and lists those that nothing holds; `MUTANTS.md`
says why each of these does no harm.

All tests are collected once. A first run of each notes the lines it runs and how long it takes. Then a forked process
for each mutant gives the changed function its new code and runs the tests of its line, the quickest first. So no file
is written, nothing is imported twice, and a mutant costs a fraction of a second. Forking asks for Linux or macOS.
"""

import argparse
import ast
import copy
import inspect
import os
import pickle
import signal
import sys
import time
import traceback
from collections import Counter, defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import pytest
import torch

import skae

TESTS, ROOT = Path(__file__).parent, Path(skae.__file__).parent
MODULES = "losses", "likelihoods", "starts", "nn"
FILES = [TESTS / f"test_{name}.py" for name in MODULES] + [ROOT / f"{name}.py" for name in MODULES]
OWN = set(FILES)
WIDER = "conditional engine generator images missing_values mixed_columns ordered ordered_generator sparse transformer"
FILES += [TESTS / f"test_{name}.py" for name in WIDER.split()]

OPERATORS = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.BitXor: ast.BitOr,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.RShift: ast.LShift,
}
PAIRS = ["min max", "minimum maximum", "argmin argmax", "nanmin nanmax", "zeros ones", "any all", "vstack hstack"]
SWAPS = {a: b for pair in PAIRS for a, b in (pair.split(), pair.split()[::-1])}
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
    """One change: in the function or class ``scope`` of a module, in a statement of these lines; the tree has it."""

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
            if field in ("annotation", "returns", "bases") or isinstance(parent, ast.Assert | ast.Raise):
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
    live = sys.modules[f"skae.{mutant.module}"]
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
    """A pytest plugin that runs mutants in place of tests."""

    def __init__(self, options):
        self.options = options
        self.survivors, self.made = [], Counter()

    # What a forked process runs.

    def pytest_runtest_logreport(self, report):
        self.failed |= report.failed
        self.seconds += report.duration if report.when == "call" else 0

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef):
        """Lines and seconds of a fixture are those of each test that asks for it."""
        if self.item is None:
            return (yield)
        outer, self.hits, began = self.hits, set(), time.perf_counter()
        try:
            return (yield)
        finally:
            key, seconds = (self.item.path, fixturedef.argname), time.perf_counter() - began
            hits, least = self.fixtures.get(key, (set(), seconds))
            self.fixtures[key] = hits | self.hits, min(least, seconds)
            self.hits = outer | self.hits

    def run(self, item, following=None):
        self.failed, self.seconds = False, 0.0
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)

    def trace(self, frame, event, arg):
        """For `sys.settrace`: note lines of the modules."""
        module = self.names.get(frame.f_code.co_filename)
        if module is None:
            return None

        def line(frame, event, arg):
            self.hits.add((module, frame.f_lineno))
            return line

        return line(frame, event, arg)

    def measure(self, items):
        """Of each test the lines it runs, with those of its fixtures, and the seconds it takes."""
        self.names = {str(ROOT / f"{name}.py"): name for name in MODULES}
        self.fixtures, found = {}, {}
        for item, following in zip(items, [*items[1:], None][: len(items)], strict=True):
            self.item, self.hits = item, set()
            sys.settrace(self.trace)
            self.run(item, following)
            sys.settrace(None)
            if self.failed:
                continue
            asked = [self.fixtures[key] for name in item.fixturenames if (key := (item.path, name)) in self.fixtures]
            lines = self.hits.union(*(lines for lines, _ in asked))
            found[item.nodeid] = lines, self.seconds + sum(seconds for _, seconds in asked)
        return found

    def hold(self, mutant, items):
        """Whether any of these tests fails."""
        signal.alarm(10 * self.options.seconds)
        apply(mutant)
        for item, following in zip(items, [*items[1:], None], strict=True):
            self.run(item, following)
            if self.failed:
                return True
        return False

    # What the first process does.

    item = None

    def pytest_runtestloop(self, session):
        lines, seconds = self.measured(session.items)
        by_line = defaultdict(set)
        for nodeid, hits in lines.items():
            for hit in hits:
                by_line[hit].add(nodeid)
        items = sorted(session.items, key=lambda item: (item.path not in OWN, seconds.get(item.nodeid, 1e9)))
        running = {}
        for module in self.options.modules:
            for mutant in mutants(module):
                text = str(mutant)
                if self.options.only is not None and text not in self.options.only:
                    continue
                self.made[module] += 1
                nodeids = self.tests_of(mutant, by_line)
                chosen, left = [], self.options.seconds
                for item in items:
                    if item.nodeid in nodeids and (item.path in OWN or seconds[item.nodeid] < left):
                        chosen.append(item)
                        left -= seconds[item.nodeid] * (item.path not in OWN)
                if not chosen:
                    self.survived(mutant.module, text, "no test")
                    continue
                if len(running) >= self.options.jobs:
                    self.wait(running)
                running[self.fork(lambda m=mutant, c=chosen: 1 - self.hold(m, c))] = module, text, len(chosen)
        while running:
            self.wait(running)
        return True

    def tests_of(self, mutant, by_line):
        """Those that run its statement; of a constant, its users; else all of the function or the module."""
        found = set().union(*(by_line[mutant.module, line] for line in mutant.lines))
        if not found:
            source = ast.walk(ast.parse((ROOT / f"{mutant.module}.py").read_text()))
            near = [n for n in source if hasattr(n, "lineno") and n.lineno in mutant.lines]
            names = {n.id for n in near if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
            source = ast.walk(ast.parse((ROOT / f"{mutant.module}.py").read_text()))
            users = [n.lineno for n in source if getattr(n, "id", getattr(n, "attr", None)) in names]
            found = set().union(*(by_line[mutant.module, line] for line in users))
        if not found:
            scope = mutant.scope.split(".")[-1]
            source = ast.walk(ast.parse((ROOT / f"{mutant.module}.py").read_text()))
            spans = [range(n.lineno, n.end_lineno + 1) for n in source if getattr(n, "name", None) == scope]
            found = {
                id
                for (module, at), ids in by_line.items()
                if module == mutant.module
                for id in ids
                if not spans or any(at in span for span in spans)
            }
        return found

    def measured(self, items):
        """What `measure` finds, of tests that are not in the cache in forked processes."""
        cache = self.options.cache
        found = pickle.loads(cache.read_bytes()) if cache.exists() else {}
        new = [item for item in items if item.nodeid not in found]
        paths = sorted({item.path for item in new})
        parts = {cache.with_suffix(f".{k}"): set(paths[k :: self.options.jobs]) for k in range(self.options.jobs)}
        for part, some in parts.items():
            group = [item for item in new if item.path in some]
            self.fork(lambda g=group, p=part: p.write_bytes(pickle.dumps(self.measure(g))) and 0)
        for _ in parts:
            os.wait()
        for part in parts:
            found |= pickle.loads(part.read_bytes())
            part.unlink()
        for item in new:
            if item.nodeid not in found:
                print(f"{item.nodeid} fails without any mutant")
        cache.write_bytes(pickle.dumps(found))
        return {k: v[0] for k, v in found.items()}, {k: v[1] for k, v in found.items()}

    def fork(self, job):
        """Run a job in a process of its own, whose exit status is the result."""
        sys.stdout.flush()
        if pid := os.fork():
            return pid
        status = 3
        try:
            if not self.options.debug:
                os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
                os.dup2(1, 2)
            status = job()
        except Exception:
            traceback.print_exc()
        finally:
            os._exit(status)

    def wait(self, running):
        pid, status = os.wait()
        module, text, n_tests = running.pop(pid)
        if status == 256:  # it found nothing
            self.survived(module, text, f"{n_tests} tests")

    def survived(self, module, text, why):
        self.survivors.append((module, text))
        print(f"{text}   [{why}]", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--modules", nargs="+", default=MODULES, choices=MODULES)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seconds", type=int, default=8)
    parser.add_argument("--cache", type=Path, default=Path("/tmp/x/mutation/lines.pkl"))
    parser.add_argument("--only", type=Path)
    parser.add_argument("--debug", action="store_true")
    options = parser.parse_args()
    if options.only:
        options.only = {line.rsplit("   [", 1)[0] for line in options.only.read_text().splitlines()}
    torch.set_num_threads(1)
    plugin = Mutation(options)
    pytest.main(
        [
            "-s",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:xdist",
            "-p",
            "no:terminal",
            *map(str, FILES[:8] if os.environ.get("QUICK") else FILES),
        ],
        plugins=[plugin],
    )
    for module in options.modules:
        n_left = sum(name == module for name, _ in plugin.survivors)
        print(f"{module}: {plugin.made[module]} made, {plugin.made[module] - n_left} held, {n_left} left")


if __name__ == "__main__":
    main()
