# Two commands matter: `make demo` and `make test`. Both make a virtual environment in .venv, install pinned
# dependencies into it once, and may be repeated.
#
#   PYTHON   the interpreter to build the environment with (3.11 or newer), e.g. PYTHON=python3.12
#   VENV     where the environment is; no spaces in it (the path of the checkout may have some)
#   FAULT_SEEDS  how many seeds `make faults` tries every random fault with

PYTHON ?= python3
VENV ?= .venv
FAULT_SEEDS ?= 3

PIP_INSTALL = "$(VENV)/bin/python" -m pip install --quiet --disable-pip-version-check --timeout 60 --retries 10 --no-compile -c constraints.txt
# pip installs one package after the other, and most bytes are torch's. Those go on beside the rest, and what either
# of the two could not do, or left to the other, is done and said by the call that follows them.
TORCH = $(shell sed -n $(if $(filter Linux/x86_64,$(shell uname -s)/$(shell uname -m)),-e '/^nvidia-/p' -e '/^triton=/p') \
    -e '/^torch/p' constraints.txt)
OTHERS = $(shell "$(VENV)/bin/python" -c 'import tomllib; project = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
    wanted = sum(map(project["optional-dependencies"].get, "$(EXTRAS)".split()), project["dependencies"]); \
    print(*("\"%s\"" % one for one in wanted if not one.startswith(("torch", "sharpflat"))))')
BOTH = $(MAKE) --no-print-directory --jobs=2 install-torch install-others
# pip compiles on one core, and what nobody imports too; the few files that no Python 3 can compile are of no use.
UNUSED = site-packages/(.*/tests?/|(cfnlint|databricks|moto|narwhals|networkx|pip|setuptools)/|ray/(llm|rllib|serve)/|torch/testing/_internal/)
COMPILE = "$(VENV)/bin/python" -m compileall -qq -j 0 -x '$(UNUSED)' "$(VENV)" || true
CREATED = $(VENV)/.created
INSTALLED = $(VENV)/.installed
INSTALLED_TEST = $(VENV)/.installed-test
INSTALLED_DEV = $(VENV)/.installed-dev
PINS = pyproject.toml constraints.txt
PACKAGES = sweep trainers search_spaces cluster tests benchmarks

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test cluster-tests faults lint clean install-torch install-others

help:
	@echo "make demo    run a small sweep on MNIST-5k and draw its heatmaps"
	@echo "make test    run all tests"
	@echo "make cluster-tests  start docker-compose.yml on hosts of its own, as root on Linux, and break it (five minutes)"
	@echo "make faults  run the whole fault matrix (FAULT_SEEDS=$(FAULT_SEEDS) seeds a fault; about an hour)"
	@echo "make lint    check style and types"
	@echo "make clean   remove the environment and caches; results/ stays"

demo: $(INSTALLED)
	"$(VENV)/bin/sweep" run demo
	"$(VENV)/bin/sweep" report demo

# Tests start some hundred processes, and where PYTHONDONTWRITEBYTECODE is set each would compile these again.
test: $(INSTALLED_TEST)
	"$(VENV)/bin/python" -m compileall -qq $(PACKAGES)
	"$(VENV)/bin/python" -m pytest -n 3 --dist worksteal $(PYTEST_ARGS)

cluster-tests: $(INSTALLED_TEST)
	CLUSTER_TESTS=1 "$(VENV)/bin/python" -m pytest tests/integration/cluster -s $(PYTEST_ARGS)

faults: $(INSTALLED_TEST)
	FAULT_SEEDS=$(FAULT_SEEDS) FAULT_REPORT=1 "$(VENV)/bin/python" -m pytest tests/integration/faults -o timeout=1200 $(PYTEST_ARGS)

lint: $(INSTALLED_DEV)
	"$(VENV)/bin/ruff" check .
	"$(VENV)/bin/pyright" --pythonpath "$(VENV)/bin/python"

clean:
	rm -rf "$(VENV)" build .pytest_cache .ruff_cache *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp and not bin/python is the target: that appears first and is left behind by an interrupted venv.
$(CREATED):
	@command -v "$(PYTHON)" >/dev/null || { \
	    echo "make: $(PYTHON) is not installed; name a Python 3.11 or newer, for example:" \
	        "make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "make: $(PYTHON) is $$("$(PYTHON)" --version 2>&1); Python 3.11 or newer is needed, for example:" \
	        "make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' || { \
	    echo "make: $(PYTHON) cannot make virtual environments; on Debian or Ubuntu: apt-get install python3-venv" >&2; \
	    exit 1; }
	"$(PYTHON)" -m venv "$(VENV)"
	@touch "$@"

install-torch:
	@$(PIP_INSTALL) --no-deps $(TORCH) 2>/dev/null || true

install-others:
	@$(PIP_INSTALL) $(OTHERS) 2>/dev/null || true

$(INSTALLED): $(PINS) | $(CREATED)
	@echo "Installing pinned dependencies into $(VENV); the first time this downloads a few GB."
	@$(BOTH)
	$(PIP_INSTALL) -e .
	$(COMPILE)
	@touch "$@"

$(INSTALLED_TEST): $(PINS) | $(CREATED)
	@echo "Installing pinned dependencies into $(VENV); the first time this downloads a few GB."
	@$(BOTH) EXTRAS="cluster test"
	$(PIP_INSTALL) -e ".[test]"
	$(COMPILE)
	@touch "$(INSTALLED)" "$@"

$(INSTALLED_DEV): $(INSTALLED)
	$(PIP_INSTALL) -e ".[test,dev]"
	$(COMPILE)
	@touch "$@"
