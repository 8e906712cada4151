# The verbs of this repository. Each sets up what it needs by itself; `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

VENV ?= .venv
BIN := $(VENV)/bin
export VENV

LAYERS := native topics state workers rag ops
# Folders beside the package that hold Python; those that exist are checked too.
BESIDE := $(patsubst %/,%,$(wildcard tests/ benchmarks/ examples/))

# Two processes share one broker; more would fight over it. With ARGS (some tests only) starting them costs more than it saves.
JOBS ?= $(if $(ARGS),0,$(shell [ "$$(nproc)" -ge 2 ] && echo 2 || echo 0))

STORY ?= support_desk

.PHONY: help setup demo example test chaos check check-format check-lint check-types check-layers check-shape format bench docs lock clean

help: ## list these verbs
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## make .venv from requirements.lock (every other verb does it first)
	@scripts/setup.sh
	@mkdir -p build/src
	@ln -sfn ../.. build/src/millstream # the root under its import name, whatever the folder of the checkout is called

demo: setup ## windows, joins and answers, live on a real Kafka, with a worker killed (about two minutes)
	@$(BIN)/millstream demo $(ARGS)

example: setup ## an example with a story, on a real Kafka: STORY=support_desk, document_watch or iot
	@$(BIN)/python -m examples.$(STORY)

test: setup ## all tests; ARGS="tests/topics -k json" for some, JOBS=0 for one process
	@echo "test: pytest, $(JOBS) processes (0: in one)"
	@$(BIN)/python -m pytest $(if $(filter-out 0,$(JOBS)),-n $(JOBS) --dist loadfile) $(ARGS)

chaos: setup ## kill workers and brokers, cut connections, and judge; ARGS="MINUTES=30 SEED=7", report and picture in build/chaos
	@$(BIN)/python -m tests.scenarios.chaos $(ARGS)

check: setup ## format, lint, types, layers, shape: everything that needs no broker
	@$(MAKE) --keep-going check-format check-lint check-types check-layers check-shape

check-format: setup
	@echo "check: ruff format"; $(BIN)/ruff format --check --quiet . || { echo "  make format    mends it"; exit 1; }

check-lint: setup
	@echo "check: ruff check"; $(BIN)/ruff check --quiet --output-format concise .

check-types: setup
	@echo "check: mypy"; scripts/types.sh $(LAYERS) $(BESIDE)

check-layers: setup
	@echo "check: import-linter"; report=$$($(BIN)/lint-imports --no-cache 2>&1) || { echo "$$report"; exit 1; }; tail -1 <<<"$$report"

check-shape: setup
	@echo "check: shape"; $(BIN)/python -m pytest -q tests/shape

format: setup ## let ruff format the code and mend what it can
	@$(BIN)/ruff check --fix-only --quiet . ; $(BIN)/ruff format --quiet .

bench: setup ## measure on a local broker, write build/bench.json; PEERS=1 runs the peers beside it
	@mkdir -p build
	@PEERS=$(PEERS) $(BIN)/python -m benchmarks $(ARGS)

docs: setup ## the reference from the docstrings into build/docs, and every link of the pages checked
	@$(BIN)/python -m pytest -q tests/shape/test_pages.py
	@$(BIN)/python -m pdoc --docformat markdown -o build/docs millstream '!millstream.setup'
	@echo "docs: build/docs/index.html"

lock: setup ## renew requirements.lock to the newest versions pyproject.toml allows (UPGRADE= keeps the old ones)
	@$(BIN)/uv pip compile pyproject.toml --all-extras --group dev --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-emit-find-links --no-annotate --custom-compile-command "make lock" \
		$(if $(filter undefined,$(origin UPGRADE)),--upgrade) --quiet -o requirements.lock
	@echo "ziglang>=0.13" | $(BIN)/uv pip compile - --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-emit-find-links --no-annotate --custom-compile-command "make lock" \
		$(if $(filter undefined,$(origin UPGRADE)),--upgrade) --quiet -o requirements-compiler.lock
	@scripts/setup.sh

clean: ## remove what was built, downloaded or started here (the broker's cache of jars stays)
	@if [ -x $(BIN)/millstream ]; then $(BIN)/millstream broker stop >/dev/null 2>&1 || true; fi
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .millstream
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	rm -f native/*.so
