# Each target works on a fresh Debian 12 with Python 3.11 and changes nothing outside this folder.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help venv demo test lint bench soak lock clean

help:  ## this list
	@awk -F':.*## ' '/^[a-z]+:.*## /{printf "  make %-6s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv: $(VENV)/.ready  ## the virtual environment, with the programs in .venv/bin

$(VENV)/.ready: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("Binlock needs Python 3.11 or later; set PYTHON=") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV) || { echo 'make: no virtual environment: install python3-venv (apt-get install python3-venv)' >&2; exit 1; }
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --editable '.[monitor,audit]' --group dev
	touch $@

demo: venv  ## the whole thing on real servers; DEMO_SECONDS=30 ends by itself
	$(BIN)/python -m testbed.demo

lint: venv  ## style, types, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m grafana --check

test: lint  ## everything that must hold, against real servers
	$(BIN)/python -m testbed fetch
	$(BIN)/python -m testbed packages tests/integration/clients
	$(BIN)/python -m testbed packages tests/integration/pages
	$(BIN)/python -m testbed packages tests/grafana/checking
	$(BIN)/python -m testbed packages tests/deploy/charts
	$(BIN)/python -m testbed packages tests/audit/sarif
	$(BIN)/pytest --numprocesses=auto --maxprocesses=4 --dist=loadfile

bench: venv  ## the relay and the monitor beside their peers, as ratios
	$(BIN)/python -m bench.relay
	$(BIN)/python -m bench.live
	$(BIN)/python -m bench.monitor

soak: venv  ## the slow ones
	$(BIN)/pytest -m soak
	$(BIN)/pytest -m 'hypothesis and not soak' --hypothesis-profile='new examples'

REQUIREMENTS := deploy/container/requirements
LOCK := UV_CUSTOM_COMPILE_COMMAND='make lock' uv pip compile --quiet --upgrade --generate-hashes --no-annotate \
	--python-version 3.11 --python-platform linux

lock:  ## what the container images are locked to, anew; needs uv
	$(LOCK) pyproject.toml -o $(REQUIREMENTS)/proxy.txt
	$(LOCK) --constraint $(REQUIREMENTS)/proxy.txt $(REQUIREMENTS)/monitor.in -o $(REQUIREMENTS)/monitor.txt
	$(LOCK) $(REQUIREMENTS)/build.in -o $(REQUIREMENTS)/build.txt

clean:  ## remove everything that was made here
	rm -rf $(VENV) .testbed .demo dist .hypothesis .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
