# All set-up is here: `make demo` and `make test` need Python 3.11 or newer and make, nothing else.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
LOWER := .venv-lower

.PHONY: help install demo test test-all test-lower lint clean

help:
	@echo "make demo        install into $(VENV), train on simulated data, show the result"
	@echo "make test        install, run the fast tests"
	@echo "make test-all    the slow tests too"
	@echo "make test-lower  the fast tests with the lowest versions that pyproject.toml admits, in $(LOWER)"
	@echo "make lint        ruff and mypy"
	@echo "make clean       remove $(VENV), $(LOWER) and the demo"

install: $(READY)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "rnatracker needs Python 3.11 or newer; try make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $(READY)

demo: $(READY)
	@mkdir -p demo
	@test -f demo/simulated.tsv || $(BIN)/rnatracker data simulate demo/simulated.tsv --records 600 --median-length 600
	$(BIN)/rnatracker train --data demo/simulated.tsv --log-name demo --fold 3 --jobs 2 \
		--max-length 1500 --batch-size 16 --lr 0.003 --epochs 40

test: $(READY)
	$(BIN)/python -m pytest -m "not slow" -n auto --dist worksteal

test-all: $(READY)
	$(BIN)/python -m pytest

# With the lowest Python too: the lowest versions have no wheels for later ones.
test-lower:
	rm -rf $(LOWER)
	$(PYTHON) -m venv $(LOWER)
	$(PYTHON) tests/lower_bounds.py > $(LOWER)/bounds.txt
	$(LOWER)/bin/python -m pip install --quiet --disable-pip-version-check --constraint $(LOWER)/bounds.txt --editable '.[dev]'
	$(LOWER)/bin/python -m pytest -m "not slow" -n auto --dist worksteal

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) $(LOWER) demo
