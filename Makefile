# Victoria needs nothing but Python 3.11 or newer: every target sets up what it uses in .venv.

.DEFAULT_GOAL := help
GOAL ?= List the files in the folder schemas. And what is an event-driven pipeline?
# As it was typed: a goal may have any character, also those that mean something to make.
override export GOAL := $(value GOAL)
# Where an image forbids to keep byte code, every command would compile hundreds of files anew.
unexport PYTHONDONTWRITEBYTECODE
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help setup run test test-long test-live-chain check bench chaos load ollama lock clean

help: ## Show this help
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

setup: $(VENV)/.run ## Make the virtual environment with what Victoria needs

run: $(VENV)/.run ## Answer a goal: make run GOAL="Read README.md"
	@$(BIN)/victoria run -- "$${GOAL}"

test: $(VENV)/.dev ## Run the tests (real server, real model; under 5 minutes on 2 cores)
	$(BIN)/python -m pytest

test-long: $(VENV)/.dev ## Run the long tests: real models, hundreds of answers, kill -9 under load (some 25 minutes)
	$(BIN)/python -m pytest -m heavy

test-live-chain: $(VENV)/.dev ## Send a real request through the services at VICTORIA_URL, by default http://127.0.0.1:8010
	$(BIN)/python -m pytest -m live -n 0 tests/live

check: $(VENV)/.dev ## Lint, type check, and hold the direction of imports
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/basedpyright
	$(BIN)/lint-imports

bench: $(VENV)/.dev ## Measure speed beside other tools, into tests/bench/RESULTS.md (some 20 minutes)
	$(BIN)/python -m tests.bench

chaos: $(VENV)/.dev ## Kill everything at any time, and count (about 8 minutes)
	$(BIN)/python -m tests.chaos
	$(BIN)/python -m tests.chaos.matrix

load: $(VENV)/.dev ## Put load on the HTTP door: 500 users, 1,000 followers, kill -9 (about 2 minutes)
	$(BIN)/python -m tests.load

ollama: $(VENV)/.dev ## Build a real Ollama for the tests, with go and g++ (about 5 minutes, once)
	$(BIN)/python -m tests.llm.build_ollama

lock: $(VENV)/.dev ## Write requirements.lock anew from pyproject.toml
	$(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 --all-extras \
		--generate-hashes --no-header --no-emit-index-url --quiet --upgrade --output-file requirements.lock

clean: ## Remove what the other targets made here
	rm -rf $(VENV) .bench .pytest_cache .ruff_cache .hypothesis *.egg-info build

$(BIN)/python:
	@for python in $(PYTHON) python3 python3.14 python3.13 python3.12 python3.11; do \
		if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
			echo "Making $(VENV) with $$python ..." >&2; exec $$python -m venv $(VENV); \
		fi; \
	done; echo "Victoria needs Python 3.11 or newer; name it: make PYTHON=/path/to/python" >&2; exit 1

# uv holds what it installs to the hashes of the lock, and is itself installed by its hash there.
$(BIN)/uv: requirements.lock | $(BIN)/python
	@awk '/^uv==/ {p=1} p {print} p && !/\\$$/ {exit}' requirements.lock > $(VENV)/uv.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement $(VENV)/uv.lock
	@touch $@

INSTALL = $(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --constraint requirements.lock --build-constraint requirements.lock

$(VENV)/.run: pyproject.toml requirements.lock | $(BIN)/uv
	@echo "Installing Victoria into $(VENV) ..." >&2
	@$(INSTALL) --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.run
	@echo "Installing the test and development tools into $(VENV) ..." >&2
	@$(INSTALL) --editable '.[dev]'
	@touch $@
