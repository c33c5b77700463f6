# Two commands matter: `make demo` and `make test`. Both make a virtual environment in .venv, install pinned
# dependencies into it once, and may be repeated.
#
#   PYTHON   the interpreter to build the environment with (3.11 or newer), e.g. PYTHON=python3.12
#   VENV     where the environment is; no spaces in it (the path of the checkout may have some)

PYTHON ?= python3
VENV ?= .venv

PIP_INSTALL = "$(VENV)/bin/python" -m pip install --quiet --disable-pip-version-check -c constraints.txt
INSTALLED = $(VENV)/.installed
INSTALLED_TEST = $(VENV)/.installed-test
INSTALLED_DEV = $(VENV)/.installed-dev
PINS = pyproject.toml constraints.txt

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test lint clean

help:
	@echo "make demo    run a small sweep on MNIST-5k and draw its heatmaps"
	@echo "make test    run all tests"
	@echo "make lint    check style and types"
	@echo "make clean   remove the environment and caches; results/ stays"

demo: $(INSTALLED)
	"$(VENV)/bin/sweep" run demo
	"$(VENV)/bin/sweep" report demo

test: $(INSTALLED_TEST)
	"$(VENV)/bin/python" -m pytest $(PYTEST_ARGS)

lint: $(INSTALLED_DEV)
	"$(VENV)/bin/ruff" check .
	"$(VENV)/bin/pyright" --pythonpath "$(VENV)/bin/python"

clean:
	rm -rf "$(VENV)" build .pytest_cache .ruff_cache *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/bin/python:
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	    echo "make: $(PYTHON) is missing or older than Python 3.11 ($$("$(PYTHON)" --version 2>&1));" \
	        "name another one, for example: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { \
	    echo "make: $(PYTHON) cannot make virtual environments; on Debian or Ubuntu install python3-venv" >&2; \
	    exit 1; }
	"$(PYTHON)" -m venv "$(VENV)"

$(INSTALLED): $(PINS) | $(VENV)/bin/python
	@echo "Installing pinned dependencies into $(VENV); the first time this downloads a few GB."
	$(PIP_INSTALL) -e .
	@touch "$@"

$(INSTALLED_TEST): $(INSTALLED)
	$(PIP_INSTALL) -e ".[test]"
	@touch "$@"

$(INSTALLED_DEV): $(INSTALLED)
	$(PIP_INSTALL) -e ".[test,dev]"
	@touch "$@"
