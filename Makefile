# Every target makes its own virtual environment first: a fresh clone needs nothing but Python 3.11 or later.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# Other libraries, for `make bench` only; never in the environment of kanpinn.
PEERS ?= .venv-peers
PEERS_LIST := benchmarks/peers-constraints.txt

.PHONY: solve test test-slow mutants docs lint format clean paper science peers bench bench-quick growth
.DEFAULT_GOAL := solve

$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[test]'
	touch $@

solve: $(INSTALLED)
	$(BIN)/kanpinn solve problem=poisson

test: $(INSTALLED)
	$(BIN)/python -m pytest -n auto --dist worksteal

test-slow: $(INSTALLED)
	$(BIN)/python -m pytest -m slow

# The documentation as a site, opened from build/site/index.html; fails on any warning.
docs: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

$(VENV)/.installed-docs: $(INSTALLED)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[docs]'
	touch $@

# Mutation testing of the numerical core: SAMPLE changes drawn by SEED, in ROOMS (such as "jets splines"; all if empty),
# held against its tests by so many PROCESSES. The report lies in outputs/mutants.
SAMPLE ?= 300
SEED ?= 17
ROOMS ?=
PROCESSES ?= 2
mutants: $(VENV)/.installed-mutants
	$(BIN)/python tests/support/mutants.py --sample $(SAMPLE) --seed $(SEED) --rooms $(ROOMS) --processes $(PROCESSES)

$(VENV)/.installed-mutants: $(INSTALLED)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[mutants]'
	touch $@

# The experiments of the paper behind the method: hours; goes on where it was interrupted.
paper: $(INSTALLED)
	$(BIN)/python benchmarks/paper.py

# The experiments of KAN and KAN 2.0, seeds 0 to 4: an hour; goes on where it was interrupted.
science: $(VENV)/.installed-science
	$(BIN)/python benchmarks/science.py

$(VENV)/.installed-science: $(INSTALLED)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[science]'
	touch $@

$(PEERS)/.installed: $(PEERS_LIST)
	test -x $(PEERS)/bin/python || $(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet -r $(PEERS_LIST)
	touch $@

peers: $(PEERS)/.installed

# Every problem, solver, seed and time limit: hours; goes on where it was interrupted.
bench: $(INSTALLED) $(PEERS)/.installed
	$(BIN)/python benchmarks/peers.py --peers-python $(PEERS)/bin/python
	$(BIN)/python benchmarks/regions.py --seeds 0 1 2 3 4 --peers-python $(PEERS)/bin/python

bench-quick: $(INSTALLED) $(PEERS)/.installed
	$(BIN)/python benchmarks/peers.py --peers-python $(PEERS)/bin/python --problems poisson burgers --seeds 0 --limits 10 30 \
		--csv outputs/benchmarks/peers-quick.csv --figure outputs/benchmarks/peers-quick.png

# Seconds and memory of a Levenberg–Marquardt step against parameters, points, depth and dimension.
growth: $(INSTALLED)
	$(BIN)/python benchmarks/growth.py

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/pyright --pythonpath $(BIN)/python

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) $(PEERS) mutants build dist kanpinn.egg-info
