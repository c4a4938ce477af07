# docmill: `make demo` shows it, `make test` proves it.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# What `make demo` ingests, and what it asks.
DOCS ?= docs
Q ?= How do I add workers on another machine?
# A collection for each folder, so that one demo does not count another's documents as vanished.
COLLECTION = demo-$(shell printf '%s' "$(DOCS)" | cksum | cut -d' ' -f1)

# Hundreds of processes start in the tests: without their bytecode each would compile all modules anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo test bench bench-curve bench-embedding chaos lint lock clean

help:  ## Say what there is to make.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 17

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "docmill needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1). Try: make PYTHON=python3.12 demo"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "Debian and Ubuntu keep venv apart: apt install python3-venv"; exit 1; }

$(VENV)/.demo: requirements.lock pyproject.toml | $(BIN)/python
	@echo "installing into $(VENV) ..."
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements.lock
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: requirements-dev.lock tests/requirements-no-deps.lock $(VENV)/.demo
	@echo "installing the tools of the tests ..."
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements-dev.lock
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r tests/requirements-no-deps.lock
	@touch $@

demo: $(VENV)/.demo  ## Ingest DOCS on real servers, started for it, and answer Q. DOCS=/some/folder Q="a question"
	@$(BIN)/docmill ingest "$(DOCS)" --collection $(COLLECTION) --strategy upserts_and_delete \
	  --chunk-size 256 --chunk-overlap 32 || [ $$? -eq 3 ]
	@echo; echo "$(Q)"; $(BIN)/docmill search "$(Q)" --collection $(COLLECTION) -k 3

test: $(VENV)/.dev  ## Run all tests, against real services that they start themselves.
	@$(BIN)/pytest

CHAOS ?= --broker both

chaos: $(VENV)/.dev  ## Break everything, seeded, and count what is lost or copied. CHAOS="--fault flushall --seed 7"
	@$(BIN)/python -m tests.chaos $(CHAOS)

ROUNDS ?= 5
LIMIT ?= 300000

bench: $(VENV)/.dev  ## Measure docmill, a bare loop, LlamaIndex and CocoIndex. CORPUS=/some/folder ROUNDS=5 ONLY=ours,bare
	@$(BIN)/python -m tests.benchmarks $(if $(CORPUS),--corpus "$(CORPUS)") $(if $(ONLY),--only $(ONLY)) --rounds $(ROUNDS)

bench-curve: $(VENV)/.dev  ## Draw seconds and memory over 1,000 to LIMIT documents. CORPUS=/some/folder LIMIT=300000
	@$(BIN)/python -m tests.benchmarks.curve $(if $(CORPUS),--corpus "$(CORPUS)") --limit $(LIMIT)

bench-embedding: $(VENV)/.dev  ## Measure what is left of an embedder's own speed, and how a slow service's grows with workers.
	@$(BIN)/python -m tests.benchmarks.embedding

lint: $(VENV)/.dev  ## Check style, types, walls between the rooms, and that migrations and tables agree.
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@DIR=$$(mktemp -d) && export DOCMILL_DATABASE_URL=sqlite:///$$DIR/ledger.db DOCMILL_BROKER_URL=redis://localhost && \
	  $(BIN)/docmill db upgrade && $(BIN)/alembic check; STATUS=$$?; rm -rf "$$DIR"; exit $$STATUS

COMPILE = $(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-annotate \
  --no-header --no-emit-index-url --no-emit-find-links --quiet

lock: $(VENV)/.dev  ## Pin the newest allowed versions of everything.
	@$(COMPILE) --upgrade --all-extras -o requirements-dev.lock
	@$(COMPILE) -c requirements-dev.lock --extra embedded --extra build -o requirements.lock
	@$(COMPILE) -c requirements-dev.lock --extra worker --extra onnx --extra openai --extra otel --extra build -o docker/requirements.lock

clean:  ## Remove the virtual environment and what tools left behind.
	@rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
