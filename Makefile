# make setup · demo · test · test-fast · lint · bench · fuzz · mutate · soak
# Every target makes .venv first when pyproject.toml has changed since.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
FUZZ_STAMP := .venv-fuzz/.ready
BENCH_STAMP := .venv-bench/.ready

export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# pytest takes a third of the time of its start to rewrite the tests, unless it may keep what it made.
unexport PYTHONDONTWRITEBYTECODE

WORKERS ?= 2

REQUEST_PATH := middleware headers auth jwt jwks keys claims tokens _jose _signatures _json
empty :=
space := $(empty) $(empty)
comma := ,
REQUEST_PATH_FILES := $(subst $(space),$(comma),$(foreach m,$(REQUEST_PATH),asgi_mcp_auth/$(m).py))

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-fast lint format bench fuzz mutate soak clean

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 18

setup: $(STAMP) ## Make .venv with the package and the development tools
	@echo "Ready: $(VENV)"

# $(1): the environment's directory, $(2): what pip installs
define environment
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or newer is needed; $(PYTHON) is $$($(PYTHON) -V 2>&1). Say which: make PYTHON=/path/to/python3.12"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
	  echo "$(PYTHON) cannot make virtual environments. On Debian and Ubuntu: sudo apt install python3-venv"; exit 1; }
	@echo "Installing into $(1) ..."
	@test -x $(1)/bin/python || $(PYTHON) -m venv $(1)
	@$(1)/bin/python -m pip install --quiet 'pip>=25.1'
	@$(1)/bin/python -m pip install --quiet $(2)
	@touch $(1)/.ready
endef

$(STAMP): pyproject.toml
	$(call environment,$(VENV),-e '.[all]' --group dev)

$(FUZZ_STAMP): pyproject.toml
	$(call environment,.venv-fuzz,-e '.[all]' --group fuzz)

$(BENCH_STAMP): pyproject.toml benchmarks/requirements.txt
	$(call environment,.venv-bench,-e . -r benchmarks/requirements.txt)

demo: $(STAMP) ## Watch a real MCP client meet a protected server (PROXY=1: and an identity provider)
	@$(BIN)/python -m examples.$(if $(filter-out 0,$(PROXY)),proxy_demo,demo)

test: $(STAMP) ## Run every test, then check the coverage goals (WORKERS=2; ARGS=... go to pytest)
	@rm -f .coverage .coverage.*
	@$(BIN)/coverage run -m pytest -n $(WORKERS) --dist worksteal $(ARGS)
	@$(BIN)/coverage combine --quiet
	@echo "Branch coverage of the request path (goal 100 %):"
	@$(BIN)/coverage report --include='$(REQUEST_PATH_FILES)' --fail-under=100
	@echo "Branch coverage overall (goal 95 %):"
	@$(BIN)/coverage report --fail-under=95

test-fast: $(STAMP) ## Run what takes less than a second each, without coverage
	@$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m 'not slow and not soak' $(ARGS)

lint: $(STAMP) ## Format, style, types, import directions, spelling
	@status=0; for tool in 'ruff format --check .' 'ruff check .' mypy pyright 'lint-imports --no-logo' codespell; do \
	  echo "== $$tool"; $(BIN)/$$tool || status=1; done; exit $$status

format: $(STAMP) ## Rewrite the files as the formatter wants them
	@$(BIN)/ruff check --fix --quiet . || true
	@$(BIN)/ruff format .

bench: $(BENCH_STAMP) ## Measure against the goals in docs (BENCH=... go to the runner)
	@.venv-bench/bin/python benchmarks/run.py $(BENCH)

fuzz: $(FUZZ_STAMP) ## Fuzz every parser (FUZZ_SECONDS=60 for each; FUZZ='token paths' for some)
	@.venv-fuzz/bin/python -m fuzz.run $(FUZZ)

mutate: $(STAMP) ## Mutation-test the modules that decide (MODULES='claims grants' for some; JOBS=2)
	@$(BIN)/python -m fuzz.mutate $(MODULES)

soak: $(STAMP) ## The long counts: 100,000 requests, races, 20,000 examples of every property, every combination
	@HYPOTHESIS_PROFILE=soak $(BIN)/python -m pytest -p no:cacheprovider -m 'soak or hypothesis' --timeout=3600 $(ARGS)

clean: ## Remove everything that the other targets made
	@rm -rf .venv .venv-* .coverage .coverage.* .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis mutants fuzz/corpus fuzz/findings
