# Every target makes its own virtual environment first: a fresh clone needs nothing but Python 3.11 or later.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: solve test test-slow lint format clean paper
.DEFAULT_GOAL := solve

$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[test]'
	touch $@

solve: $(INSTALLED)
	$(BIN)/kanpinn solve problem=poisson

test: $(INSTALLED)
	$(BIN)/python -m pytest

test-slow: $(INSTALLED)
	$(BIN)/python -m pytest -m slow

# The experiments of the paper behind the method: hours; goes on where it was interrupted.
paper: $(INSTALLED)
	$(BIN)/python benchmarks/paper.py

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build dist kanpinn.egg-info
