# One word for each thing to do. Needs Python >= 3.11 and make; everything else comes from the lock files, by hash.

SHELL := /bin/sh
.SHELLFLAGS := -eu -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet --quiet
# The locks are complete, so nothing is resolved, and the hashes decide what is taken. Python compiles what is used.
INSTALL := $(PIP) install --require-hashes --no-deps --no-compile
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-header --no-emit-index-url --no-annotate

IMAGE ?= lightsail-credential-broker
BASE ?= python:3.13-slim-bookworm
WHEELS ?=
ENGINE ?= $(shell deploy/container/engine)

ARGS ?=
JOBS ?= 2

# Nothing is compiled when it is installed, so what is used has to be kept when Python compiles it.
unexport PYTHONDONTWRITEBYTECODE
PROFILE ?= quick
REV ?= main

.PHONY: help
help:  ## Say what can be done
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: $(VENV)/demo.stamp  ## Try it: an embedded Lightsail, a broker, two credentials and a refusal (KEEP=1 leaves it on)
	@$(BIN)/broker demo $(if $(KEEP),--keep)

.PHONY: test
test: $(VENV)/dev.stamp  ## Run the whole test suite (ARGS="-k words", JOBS=0 for one process)
	@$(BIN)/python -m pytest --numprocesses=$(JOBS) --dist=loadfile $(ARGS)

.PHONY: test-long
test-long: $(VENV)/dev.stamp  ## Kill and starve a broker at every system call of its log (minutes)
	@$(BIN)/python -m pytest --numprocesses=$(JOBS) --dist=load -m long $(ARGS)

.PHONY: check
check: format lint types architecture policies  ## Ask everything a reviewer would ask

.PHONY: format
format: $(VENV)/dev.stamp
	@$(BIN)/ruff format --check .

.PHONY: lint
lint: $(VENV)/dev.stamp
	@$(BIN)/ruff check .

.PHONY: types
types: $(VENV)/dev.stamp
	@$(BIN)/mypy

.PHONY: architecture
architecture: $(VENV)/dev.stamp
	@$(BIN)/lint-imports --no-logo

.PHONY: policies
policies: $(VENV)/dev.stamp
	@$(BIN)/broker policy check policies
	@$(BIN)/broker policy format --check policies
	@$(BIN)/broker policy test policies --require-coverage

.PHONY: bench
bench: $(VENV)/dev.stamp  ## Measure, and write docs/performance.md (ARGS="parts", ARGS=--help, PROFILE=long)
	@$(BIN)/python -m benchmarks --profile $(PROFILE) $(ARGS)

.PHONY: bench-compare
bench-compare: $(VENV)/dev.stamp  ## Measure against another revision, in turns (REV=main, ARGS="parts")
	@$(BIN)/python -m benchmarks.compare $(REV) --profile $(PROFILE) $(ARGS)

.PHONY: lock
lock: $(VENV)/dev.stamp  ## Pin what pyproject.toml asks for (ARGS=--upgrade takes newer versions)
	$(LOCK) $(ARGS) --extra server --extra postgresql pyproject.toml -o requirements.lock
	$(LOCK) $(ARGS) --extra server --extra postgresql --extra keyring --extra otel --group dev -c requirements.lock pyproject.toml -o requirements-dev.lock
	printf 'hatchling\neditables\n' | $(LOCK) $(ARGS) -c requirements-dev.lock - -o requirements-build.lock

.PHONY: image
image:  ## Build the container image (BASE=, IMAGE=, WHEELS=folder, ENGINE=docker|podman|buildah)
	@test -n "$(ENGINE)" || { echo "make image needs docker, podman or buildah" >&2; exit 1; }
	deploy/container/build "$(ENGINE)" "$(IMAGE)" "$(BASE)" "$(WHEELS)"

.PHONY: sbom
sbom: $(VENV)/dev.stamp  ## Write down every part of the service, with its hashes: dist/sbom.json (CycloneDX)
	@mkdir -p dist
	@$(BIN)/cyclonedx-py requirements requirements.lock --pyproject pyproject.toml --output-reproducible -o dist/sbom.json
	@echo dist/sbom.json

.PHONY: release
release: $(VENV)/dev.stamp sbom  ## Build wheel and sdist, and the hashes of all that is in dist/ for a signature
	@$(BIN)/python deploy/release dist

.PHONY: licences
licences: $(VENV)/dev.stamp  ## List under which licence each part of the service is
	@$(BIN)/python deploy/licences

.PHONY: clean
clean:  ## Remove what make has made
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# One environment: the demo needs the first stamp, everything else adds to it. A stamp is older than its lock only when
# the lock has changed, so a second make installs nothing.
$(VENV)/python.stamp:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed; say which: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) \
		|| { echo "This Python cannot make a virtual environment; on Debian install python3-venv" >&2; exit 1; }
	@touch $@

$(VENV)/demo.stamp: $(VENV)/python.stamp requirements.lock requirements-build.lock pyproject.toml
	@echo "Installing what the broker needs ..." >&2
	@$(INSTALL) -r requirements.lock -r requirements-build.lock
	@$(PIP) install --no-index --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/dev.stamp: $(VENV)/demo.stamp requirements-dev.lock
	@echo "Installing what its tests need ..." >&2
	@$(INSTALL) -r requirements-dev.lock
	@touch $@
