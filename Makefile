# make sweep   the main job: install, get Fashion-MNIST, train the quick grid, show its table
# make sweep OUT=elsewhere   the same, from nothing: a clone brings the trials in results/ along
# make report  the homework's notebook, PDF and page, from the runs in results/
# make test    lint, types, layers and the default tests
PYTHON ?= python3
VENV ?= .venv
OUT ?= results
PRESET ?= quick
AUTHOR ?=
BIN := $(VENV)/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check

.PHONY: help install dev sweep homework report test test-slow lint schemas clean
.DELETE_ON_ERROR:

help:
	@echo "make sweep      install, get Fashion-MNIST, train the quick grid, show its table"
	@echo "make homework AUTHOR='Your Name'   all four questions, then the hand-in"
	@echo "make report     results/report/: the notebook, the PDF and the page, from finished runs"
	@echo "make test       lint, types, layers and the default tests"
	@echo "make test-slow  the marked tests: real data, real training, minutes"
	@echo "make dev        .venv with every extra, the benchmark peers and all data to be had"
	@echo "make clean      remove .venv and what tools leave behind; results stay"

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# One stamp for each set of packages, remade when what is asked for changes.
$(VENV)/.installed: pyproject.toml | $(BIN)/python
	$(PIP) --editable '.[offline]'
	@touch $@

$(VENV)/.tested: $(VENV)/.installed
	$(PIP) --editable '.[offline,dev]'
	@touch $@

# What the report is made with.
$(VENV)/.reporting: $(VENV)/.installed
	$(PIP) --editable '.[offline,report]'
	@touch $@

# What the slow tests need besides: the launchers' packages.
$(VENV)/.clustered: $(VENV)/.tested
	$(PIP) --editable '.[offline,dev,slurm,ray]'
	@touch $@

install: $(VENV)/.installed

dev: $(VENV)/.tested
	$(PIP) --editable '.[offline,dev,bench,slurm,ray]'
	-$(BIN)/hw2 data fetch all

sweep: install
	$(BIN)/hw2 data fetch fashion-mnist
	$(BIN)/hw2 vit-sweep --layers 4..8 --heads 2..4 --preset quick --out '$(OUT)'

# All four questions, then the hand-in; finished parts are reused.
homework: $(VENV)/.reporting
	-$(BIN)/hw2 data fetch fashion-mnist
	$(BIN)/hw2 homework --preset '$(PRESET)' --out '$(OUT)' $(if $(AUTHOR),--author '$(AUTHOR)')

report: $(VENV)/.reporting
	$(BIN)/hw2 report --out '$(OUT)' $(if $(AUTHOR),--author '$(AUTHOR)')

lint: $(VENV)/.tested
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# After a change of a config field: a test holds the schemas to the models.
schemas: $(VENV)/.installed
	for name in $(filter-out __init__,$(notdir $(basename $(wildcard hwcli/experiments/*.py)))); do \
	  $(BIN)/hw2 config schema $$name >configs/schemas/$$name.json || exit 1; done

test: lint
	$(BIN)/pytest

test-slow: $(VENV)/.clustered
	$(BIN)/pytest -m slow -rs

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
