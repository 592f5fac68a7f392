# The README's commands. Environments are reused while their lock (constraints, pyproject) is unchanged.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LOCK := $(VENV)/.lock

.PHONY: setup demo test test-fast check bench format clean

setup: $(LOCK)
	@$(BIN)/edgeml triton install
	@./tools/system-packages

$(LOCK): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "error: $(PYTHON) is older than 3.11; run: make PYTHON=/path/to/python3.11"; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { rm -rf $(VENV); ./tools/python-venv $(PYTHON) $(VENV); }
	$(BIN)/python -m pip install --quiet --constraint constraints.txt "setuptools" "torch"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	@touch $(LOCK)

demo: setup
	$(BIN)/python -m export clothing --preset quick

test: setup
	$(BIN)/python -m pytest

test-fast: $(LOCK)
	$(BIN)/python -m pytest -m "not triton and not slow"

check: $(LOCK)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(LOCK)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: setup
	$(BIN)/python -m pytest benchmarks --benchmark-only

clean:
	rm -rf $(VENV) artifacts build *.egg-info
