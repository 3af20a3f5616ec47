# Two commands: `make demo` and `make test`. Both need python3 >= 3.11 and make, nothing else.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

# The tests start many a process: each would compile the gateway anew.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test check soak bench clean

demo: $(VENV)/.installed
	$(BIN)/trio-gateway demo

test: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q -m "not soak and not alone" -n auto --dist worksteal
	$(BIN)/python -m pytest -q -m "alone and not soak"

soak: $(VENV)/.test
	$(BIN)/python -m pytest -q -s -m soak
	$(BIN)/python bench/soak.py

bench: $(VENV)/.bench
	$(BIN)/python bench/gateway.py

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "trio_gateway needs Python 3.11 or newer; name one with: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
	  { echo "Python's venv module is missing. On Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.test: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $@

$(VENV)/.bench: $(VENV)/.test
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	@touch $@

clean:
	rm -rf $(VENV)
