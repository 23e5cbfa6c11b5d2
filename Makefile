# Needs: python3 (3.11 or later), make, go, git; root for real nodes. Everything else: make setup.
PYTHON ?= python3
BIN := .venv/bin
# Nodes of `make rehearsal`: real (root) or simulated.
NODES ?= real

.PHONY: help setup setup-tests lock doctor rehearsal preview test test-all lint docs chaos bench \
    clean clean-all

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 13

setup: ## Make this machine ready; does only what is missing
	@$(PYTHON) -m tools

setup-tests: ## The same, with what only tests and benchmarks need
	@$(PYTHON) -m tools --tests

doctor: setup ## Show which parts of a rehearsal are installed, and how to get the rest
	@$(BIN)/python -m rehearsal doctor

rehearsal: setup ## Run a small study from end to end on this machine; NODES=simulated without root
	@$(BIN)/python -m experiment run --stack size-4 --study studies/smoke.yaml --rehearse --yes \
	    --nodes $(NODES) $(if $(filter simulated,$(NODES)),--speed 20)

preview: setup ## Show what every stack would create and cost; needs no Google and no credential
	@$(BIN)/python -m rehearsal providers -- $(BIN)/python -m experiment preview --all

test: lint ## Check all that CI checks, with two workers
	$(BIN)/pytest -m "not full" -n 2

test-all: lint ## Check everything, the full matrices included; nightly and before a release
	$(BIN)/pytest -n 2

lint: setup-tests ## Style, types and the direction of imports
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/shellcheck --severity=warning $$(git ls-files "*.sh" .ci/run)

docs: setup ## Write the generated pages and tables of docs/ from the programs themselves
	@$(BIN)/python -m docs.generate

chaos: setup ## Rehearse with faults, and check that the ledger finds each of them and no others
	@$(BIN)/python -m tests.chaos $(CHAOS)

bench: setup-tests ## Measure the programs' own speed
	@$(BIN)/python -m benchmarks

lock: setup ## Update requirements.lock to pyproject.toml, keeping old pins where allowed
	$(BIN)/uv pip compile pyproject.toml --quiet --all-extras --universal --python-version 3.11 \
	    --generate-hashes --no-emit-index-url --no-emit-find-links --no-header \
	    --output-file requirements.lock
	@$(PYTHON) -m tools

clean: ## Remove the environment and the checkers' caches; runs and built programs stay
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis

CACHE = $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/pull-study

clean-all: ## The same, and what this checkout left outside this folder (README.md); runs stay
	@if [ -x $(BIN)/python ]; then $(BIN)/python -m rehearsal down; \
	else echo "No .venv: what a rehearsal left outside stays until: make setup clean-all"; fi
	@$(MAKE) --no-print-directory clean
	rm -rf results report "$(CACHE)"
