SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: help up install test again quick check lint format contracts bench chaos attack lock clean

help: ## List the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-9s %s\n", $$1, $$2}'

up: $(VENV)/.runtime ## Install what is missing and start every role on the embedded log; ARGS="--port 9000" passes options on
	@exec $(BIN)/pabal up $(ARGS)

install: $(VENV)/.dev ## Install everything the tests and checks need into .venv

test: $(VENV)/.dev ## Run all tests (the Kafka part needs Java and Maven, the PostgreSQL part its server)
	$(BIN)/pytest -n auto --dist loadfile --no-loadscope-reorder

again: $(VENV)/.dev # What failed beside other tests, once more and alone.
	$(BIN)/pytest --last-failed --last-failed-no-failures none

quick: $(VENV)/.dev ## Run the tests that need no Kafka, no PostgreSQL and little time: for the loop of a developer
	$(BIN)/pytest -n auto --dist worksteal -m "not kafka and not postgres and not slow"

check: lint test ## Format, lint, types, import contracts, tests: what CI runs

lint: $(VENV)/.dev ## Format, lint, types, import contracts
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev ## Format the code and mend what the linter can
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

contracts: $(VENV)/.dev ## Write what others rely on: schemas of records, topics (contracts/), metrics and their dashboard (docs/)
	$(BIN)/python -m pabal.contracts
	$(BIN)/python -m pabal.telemetry

bench: $(VENV)/.dev ## Measure every figure we claim; writes bench/out/*.json
	$(BIN)/python -m bench

chaos: $(VENV)/.dev ## Pull every plug on both logs and count (about an hour); writes bench/out/chaos.jsonl
	$(BIN)/python -m chaos

attack: $(VENV)/.dev ## Attack a running Pabal in full: floods, damaged requests and records, hostile endpoints (about an hour)
	PABAL_ATTACK=full PABAL_ATTACK_RECORDS=10000 $(BIN)/pytest tests/attack -s -p no:cacheprovider

lock: | $(VENV)/bin/python ## Resolve the dependencies anew into requirements/
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-strip-extras --no-emit-index-url --no-header pyproject.toml --extra build --extra all -o requirements/runtime.txt
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-strip-extras --no-emit-index-url --no-header pyproject.toml --extra build --extra all --extra dev -c requirements/runtime.txt -o requirements/dev.txt

clean: ## Remove the environment and everything generated (not .pabal)
	rm -rf $(VENV) .venv-* .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache bench/out

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Pabal needs Python 3.11 or newer; try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)

# A lock is whole, so nothing is resolved: what it lists is installed as it stands, and `pip check` says what it lacks.
INSTALL_LOCKED := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r

$(VENV)/.runtime: requirements/runtime.txt pyproject.toml | $(VENV)/bin/python
	$(INSTALL_LOCKED) requirements/runtime.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	$(BIN)/python -m pip check
	@touch $@

$(VENV)/.dev: requirements/dev.txt $(VENV)/.runtime
	$(INSTALL_LOCKED) requirements/dev.txt
	$(BIN)/python -m pip check
	@touch $@
