# `make solve` and `make test` do all set-up by themselves: a .venv here, with everything the project needs in it.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PYTEST := $(BIN)/pytest -n auto --maxprocesses 4 --dist worksteal
TORCH := $(shell sed -n 's/^ *"\(torch[<>=][^"]*\)".*/\1/p' pyproject.toml)
CPU_INDEX := https://download.pytorch.org/whl/cpu

.PHONY: solve compare test quick check links docs fuzz soak clean

solve: $(VENV)/.installed  ## watch the bundled agents solve puzzles (a window, or GIFs in solves/), then read the tables
	$(BIN)/hrm-gym solve
	$(BIN)/hrm-gym solve HRMSudoku-v0:difficulty=hard --max-segments 64 --agent hrm hrm-search oracle --episodes 50

compare: $(VENV)/.installed  ## the bundled agents on mazes and Sudoku, as one page: compare/index.html (minutes)
	$(BIN)/hrm-gym compare --source auto --episodes 500 --agent hrm ppo maskableppo dqn random oracle

test: $(VENV)/.installed-dev  ## the whole test suite, a process a core (at most four)
	$(PYTEST)

quick: $(VENV)/.installed-dev  ## the tests that are not marked slow
	$(PYTEST) -m "not slow"

check: $(VENV)/.installed-dev links  ## ruff, mypy on the checkout, doctests on an installed build
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	MYPYPATH=. $(BIN)/mypy -p hrm_gym
	rm -rf build/check && $(BIN)/pip install -q --no-deps --target build/check .
	cd build/check && PYTHONPATH=. ../../$(BIN)/pytest -q -p no:cacheprovider --rootdir . --doctest-modules hrm_gym

docs: $(VENV)/.installed-docs links  ## the HTML manual, in build/docs; broken references fail
	$(BIN)/python docs/pages.py build/docs-source
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build -q -f build/docs-source/mkdocs.yml
	@echo "the manual: build/docs/index.html"

fuzz: $(VENV)/.installed-dev  ## 100,000 malformed puzzles, actions, options and files (minutes)
	$(BIN)/python -m tests.fuzz.fuzz

soak: $(VENV)/.installed-dev  ## random play over all environments for an hour, watching memory
	$(BIN)/python -m tests.fuzz.soak

# Editors and type checkers look for hrm_gym.envs in hrm_gym/envs; an installation knows better (setup.py). Where a file
# system has no links, nothing but their convenience is lost.
links:
	@for room in envs agents scripts; do ln -sfn ../$$room hrm_gym/$$room 2>/dev/null || true; done

clean:  ## remove the environment and everything built
	rm -rf $(VENV) build dist *.egg-info

# Plain `pip install torch` on Linux brings gigabytes of CUDA packages: without an NVIDIA driver the CPU index is asked
# first, and where that index is out of reach the default one serves.
$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "hrm-gym needs Python 3.10 or newer: make PYTHON=python3.12 …")'
	$(PYTHON) -m venv $(VENV)
	@if [ "$$(uname -s)" = Linux ] && ! command -v nvidia-smi >/dev/null 2>&1; then \
	  $(BIN)/pip install -q --retries 0 --timeout 15 --index-url $(CPU_INDEX) '$(TORCH)' 2>/dev/null \
	  || echo "the CPU wheel index of PyTorch is out of reach; taking torch from the default index"; \
	fi

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml setup.py
	$(MAKE) -s links
	$(BIN)/pip install -q -e .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/pip install -q -e '.[dev]'
	touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	$(BIN)/pip install -q -e '.[docs]'
	touch $@
