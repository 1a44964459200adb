# Wattline: `make help` lists the targets. Every target sets up what it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUNTIME := $(VENV)/.runtime
STAMP := $(VENV)/.installed
EDITABLE := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
PIN := $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header

.DEFAULT_GOAL := help
.PHONY: help install demo test unit container-image container-test savings-truth faults faults-fleet soak lint format reference bench boards help-texts sbom audit audit-snapshot digests lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP) ## virtual environment with pinned, hash-checked packages, those of the tests too

$(RUNTIME): requirements.txt requirements-build.txt pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m tools.install requirements.txt requirements-build.txt
	@$(EDITABLE)
	@touch $@

$(STAMP): requirements-dev.txt pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m tools.install requirements-dev.txt
	@$(EDITABLE)
	@touch $(RUNTIME) $@

demo: $(RUNTIME) ## a simulated data centre, live, with 13 months of history
	@$(BIN)/wattline demo

test: $(STAMP) ## every test
	@$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

unit: $(STAMP) ## unit and property tests only (under 30 s)
	@$(BIN)/python -m pytest -n 2 --dist worksteal tests/unit tests/property

container-image: $(STAMP) ## what container-test builds, alone; says why where containers cannot be built here
	@$(BIN)/python -m tests.containers

CONTAINER_TESTS := tests/containers
container-test: $(STAMP) ## the image built and run by Podman as compose runs it, on a base made with debootstrap; as root
	@WATTLINE_CONTAINERS=$${WATTLINE_CONTAINERS:-1} WATTLINE_REQUIRE_PROGRAMS=1 \
	  $(BIN)/python -m pytest -q -p no:cacheprovider $(CONTAINER_TESTS)

savings-truth: $(STAMP) ## 2,000 made-up plants: do the stated intervals hold their true savings? (four minutes)
	@WATTLINE_SAVINGS_TRUTH=1 $(BIN)/python -m pytest -q -p no:cacheprovider tests/property/test_baseline_truth.py

faults: $(STAMP) ## five minutes of kills, outages, full disk, wrong clock, dead lines: nothing is lost or doubled
	@$(BIN)/python -m tests.faults $(if $(SITES),--sites $(SITES))

faults-fleet: $(STAMP) ## ten minutes of a fleet: three cells, three hub servers, six edges; SEED=, SECONDS=
	@$(BIN)/python -m tests.faults.fleet $(if $(SEED),--seed $(SEED)) $(if $(SECONDS),--seconds $(SECONDS))

soak: $(STAMP) ## a day of polls in twenty minutes: does the service get heavier or slower?
	@$(if $(SITES),WATTLINE_SOAK_SITES=$(SITES)) $(BIN)/python -m bench soak

lint: $(STAMP) ## ruff, mypy --strict, import-linter, generated pages, lines of documents
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python -m tools.reference --check
	@$(BIN)/python -m tools.wrap --check

format: $(STAMP) ## format the code, and wrap the lines of documents
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .
	@$(BIN)/python -m tools.wrap

reference: $(STAMP) ## pages made from the code, written anew: docs/reference, architecture, decisions
	@$(BIN)/python -m tools.reference

bench: $(STAMP) ## measured ratios against named peers, written to bench/RESULTS.md
	@$(BIN)/python -m bench

boards: $(STAMP) ## Grafana boards written anew, and drawn from a running demo: build/boards.html
	@$(BIN)/python -m grafana
	@$(BIN)/python -m grafana.sheet -o build/boards.html

help-texts: $(STAMP) ## app/cli/help.txt, which answers `wattline --help`: run it after changing a command
	@$(BIN)/python -m tools.helptexts

sbom: $(STAMP) ## what is inside, as CycloneDX: build/sbom.json
	@$(BIN)/python -m tools.sbom

audit: $(STAMP) ## known flaws of pinned packages; fails where neither database nor a fresh snapshot answers
	@$(BIN)/python -m tools.audit

audit-snapshot: $(STAMP) ## deploy/advisories.json: what the database of flaws says today, for places without a network
	@$(BIN)/python -m tools.audit --take

digests: $(STAMP) ## put the digest behind the tag of every image; needs skopeo and the registry of images
	@$(BIN)/python -m tools.digests

lock: ## pin every package with its hashes
	@$(PIN) pyproject.toml -o requirements.txt
	@$(PIN) pyproject.toml --all-extras -o requirements-extras.txt
	@$(PIN) --group build -o requirements-build.txt
	@$(PIN) --group dev pyproject.toml --all-extras -o requirements-dev.txt

clean: ## remove the virtual environment and caches
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build *.egg-info
