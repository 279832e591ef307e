# Everything on a fresh machine that has Python >= 3.11 and a C++20 compiler: `make compare`, `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
INSTALLED := $(VENV)/.installed
BUILT := $(VENV)/.built

.PHONY: compare test build lint types layers tests sanitize clean
.DEFAULT_GOAL := test

# Built without isolation, with the build's own requirements in the environment: an isolated build has them under
# another path every time, and compiles everything again. pip takes torch from whichever index or folder it is
# configured for; constraints.txt pins the version.
$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "adamantine needs Python >= 3.11, found " + sys.version.split()[0] + "; try: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(PIP) install cmake ninja $$($(PYTHON) -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"])')
	$(PIP) install --no-build-isolation -e '.[dev]' -c constraints.txt
	@touch $@

# Compiles what changed. A module that was added or renamed changes its folder, and is to be known to the
# editable install.
$(BUILT): $(INSTALLED) CMakeLists.txt $(wildcard native/*) $(shell find src -type d -not -name __pycache__)
	$(PIP) install --no-build-isolation --no-deps -e .
	@touch $@

build: $(BUILT)

compare: $(BUILT)
	$(BIN)/adamantine compare

test: lint types layers tests

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run --Werror $(wildcard native/*.[ch]pp)

types: $(BUILT)
	$(BIN)/mypy

layers: $(BUILT)
	$(BIN)/lint-imports

tests: $(BUILT)
	$(BIN)/pytest -n 2 --cov --cov-report=term

# The kernel's tests under AddressSanitizer and UndefinedBehaviorSanitizer; not part of `make test`.
sanitize: $(INSTALLED)
	PATH="$(CURDIR)/$(BIN):$$PATH" PYTHON=$(BIN)/python sh native/sanitize.sh

clean:
	rm -rf $(VENV) build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .coverage
