# Requires only POSIX tools.
SHELL := /bin/sh
.DEFAULT_GOAL := help

BIN := .venv/bin
# What a run needs, and what tests and checks need too: `quickstart` installs the first alone.
RUN_STAMP := .venv/.installed-run
STAMP := .venv/.installed
SOURCES := sphere_core evaluators workflows tests benchmarks examples docs

# The first of these that really runs, is 3.11 to 3.13 and can make an environment. `make PYTHON=...` overrides.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
	>/dev/null 2>&1 && { echo $$p; break; }; done)

# Where torch comes from. Without an NVIDIA driver: its index of CPU builds, 0.2 GB instead of 2.7. `make TORCH_INDEX=URL`
# takes another one, `make TORCH_INDEX=default` the package index like everything else.
TORCH_INDEX ?= $(shell if [ "$$(uname -s)" != Linux ] || [ -e /proc/driver/nvidia/version ] || \
	command -v nvidia-smi >/dev/null 2>&1; then echo default; else echo https://download.pytorch.org/whl/cpu; fi)
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
INSTALL := $(PIP) -c constraints.txt

.PHONY: help quickstart test test-long check docs benchmark fmt lock

help: ## Show this list
	@echo 'Usage: make TARGET'
	@echo
	@awk -F ':.*## ' '/^[a-z.-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo 'Start with: make quickstart'

quickstart: $(RUN_STAMP) ## Set up .venv and run the example sweep on the embedded model
	$(BIN)/sphere run examples/quickstart.yaml

test: $(STAMP) ## Set up .venv and run the tests, without network
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

test-long: $(STAMP) ## The tests that take minutes or several nodes: kills, lost nodes, cut links (some need root)
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -m long

check: $(STAMP) docs ## Lint, formatting, types, and the documentation
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy

docs: $(STAMP) ## Build the documentation into build/site, without network
	$(BIN)/mkdocs build --strict --quiet

benchmark: $(STAMP) ## Measure every speed-up against the published form and print the table
	$(BIN)/python -m benchmarks

fmt: $(STAMP) ## Format the code and apply the linter's fixes
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

lock: $(STAMP) ## Resolve constraints.txt for every supported Python into requirements.lock, with hashes
	$(BIN)/uv pip compile pyproject.toml --extra aws --extra s3 --constraint constraints.txt --universal \
		--python-version 3.11 --generate-hashes --no-annotate --no-emit-index-url --no-config --quiet \
		--custom-compile-command 'make lock' --output-file requirements.lock

.venv: $(STAMP) ## Create the environment, in the versions of constraints.txt

$(RUN_STAMP): pyproject.toml constraints.txt
	@if ! $(BIN)/python -c '' >/dev/null 2>&1; then \
		python='$(PYTHON)'; \
		if [ -z "$$python" ]; then \
			echo 'No Python 3.11, 3.12 or 3.13 with venv was found.' >&2; \
			echo 'Install one (Debian and Ubuntu: python3-venv too), or name it: make PYTHON=/path/to/python3.12' >&2; \
			exit 2; \
		fi; \
		echo "Creating .venv with $$python"; \
		"$$python" -m venv --clear .venv; \
	fi
	@echo 'Installing the project and its dependencies into .venv (a few minutes the first time)'
	@torch=$$(grep '^torch==' constraints.txt); \
	if [ '$(TORCH_INDEX)' != default ] && ! $(BIN)/python -c 'import torch' >/dev/null 2>&1; then \
		$(PIP) --retries 0 --timeout 20 --no-deps --index-url '$(TORCH_INDEX)' "$$torch" 2>/dev/null || \
			echo '$(TORCH_INDEX) has no torch for this machine or cannot be reached: taking the default build'; \
	fi
	@$(INSTALL) -e .
	@touch $@

$(STAMP): $(RUN_STAMP)
	@$(INSTALL) -e '.[dev]'
	@touch $@
