# make sweep   the main job: install, get Fashion-MNIST, train the quick grid, show its table
# make sweep OUT=elsewhere   the same, with the run in another folder
# make report  the homework's notebook, PDF and page, from the runs in results/
# make test    lint, types, layers and the default tests
PYTHON ?= python3
VENV ?= .venv
OUT ?= results
PRESET ?= quick
AUTHOR ?=
# By way of the environment, so that a name may hold any letter: O'Brien.
export AUTHOR
# auto: the PyTorch that pip takes, which on Linux brings CUDA along (6.4 GB installed).
# cpu: without CUDA (about 2 GB), by pip from the index that TORCH_INDEX names, or by uv.
TORCH ?= auto
TORCH_INDEX ?=
BIN := $(VENV)/bin
PIP := $(BIN)/pip install --disable-pip-version-check --quiet
# The first install names what it downloads: minutes of silence look like a fault.
PIP_ALOUD := $(BIN)/pip install --disable-pip-version-check --progress-bar off
# macOS may mark what lies in a folder with a dot as hidden, and newer Pythons skip a hidden .pth.
SHOW_FILES = @chflags -R nohidden $(VENV) 2>/dev/null || true
NAME_ANOTHER = install one (apt, brew, or uv python install 3.12) and name it: make $(MAKECMDGOALS) PYTHON=python3.12

.PHONY: help install dev sweep homework report test test-slow lint schemas pictures clean
.DELETE_ON_ERROR:

help:
	@echo "make sweep      install, get Fashion-MNIST, train the quick grid, show its table"
	@echo "make homework AUTHOR='Your Name'   all four questions, then the hand-in"
	@echo "make report     results/report/: the notebook, the PDF and the page, from finished runs"
	@echo "make test       lint, types, layers and the default tests"
	@echo "make test-slow  the marked tests: real data, real training, minutes"
	@echo "make dev        .venv with every extra, the benchmark peers and all available data"
	@echo "make clean      remove .venv and what tools leave behind; results stay"

$(BIN)/python:
	@command -v $(firstword $(PYTHON)) >/dev/null || { echo "There is no $(PYTHON) here; $(NAME_ANOTHER)"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "hw2 needs Python 3.11 or newer, and $(PYTHON) is older; $(NAME_ANOTHER)"; exit 1; }
	@$(PYTHON) -c 'import platform, sys; sys.exit(sys.platform == "darwin" and platform.machine() != "arm64")' || { echo "PyTorch has no releases for Intel Macs nor for a Python that Rosetta runs, and $(PYTHON) is such a one; on Apple silicon $(NAME_ANOTHER)"; exit 1; }
	@$(PYTHON) -c 'import pyexpat' 2>/dev/null || { echo "$(PYTHON) has no working pyexpat module, as Homebrew's on some releases of macOS; update macOS, or take uv's: uv python install 3.12, then make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) has no venv module; on Debian and Ubuntu: sudo apt install $(notdir $(PYTHON))-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)

# What is downloaded lies beside the environment: many systems keep /tmp in half the memory, and
# PyTorch's 3 GB do not fit.
$(VENV)/.torch-$(TORCH) $(VENV)/.installed: export TMPDIR = $(abspath $(VENV))/tmp

# PyTorch first, since it is most of the download. A stamp for each choice: after an interrupted
# install the other one can be made.
$(VENV)/.torch-$(TORCH): | $(BIN)/python
	@mkdir -p $(VENV)/tmp
ifneq ($(TORCH),cpu)
	@ls $(VENV)/.torch-* >/dev/null 2>&1 || echo "installing PyTorch and the other packages (about 3.3 GB to download on Linux, $(VENV) ends at about 6.4 GB; TORCH=cpu takes less)"
else
	@echo "installing PyTorch without CUDA and the other packages (about 0.5 GB to download, $(VENV) ends at about 2 GB)"
ifneq ($(TORCH_INDEX),)
	$(PIP_ALOUD) --index-url '$(TORCH_INDEX)' torch torchvision
else
	@command -v uv >/dev/null || $(PIP) uv
	PATH="$(BIN):$$PATH" uv pip install --python $(BIN)/python --torch-backend=cpu torch torchvision
endif
endif
	@touch $@

# One stamp for each set of packages, remade when what is asked for changes.
$(VENV)/.installed: pyproject.toml $(VENV)/.torch-$(TORCH)
	@mkdir -p $(VENV)/tmp
	$(PIP_ALOUD) --editable '.[offline]'
	$(SHOW_FILES)
	@touch $@

$(VENV)/.tested: $(VENV)/.installed
	$(PIP) --editable '.[offline,dev]'
	$(SHOW_FILES)
	@touch $@

# What the report is made with.
$(VENV)/.reporting: $(VENV)/.installed
	$(PIP) --editable '.[offline,report]'
	$(SHOW_FILES)
	@touch $@

# What the slow tests need besides: the launchers' packages.
$(VENV)/.clustered: $(VENV)/.tested
	$(PIP) --editable '.[offline,dev,slurm,ray]'
	$(SHOW_FILES)
	@touch $@

install: $(VENV)/.installed

dev: $(VENV)/.tested
	$(PIP) --editable '.[offline,dev,bench,slurm,ray]'
	$(SHOW_FILES)
	-$(BIN)/hw2 data fetch all

sweep: install
	$(BIN)/hw2 data fetch fashion-mnist
	$(BIN)/hw2 vit-sweep --layers 4..8 --heads 2..4 --preset quick --out '$(OUT)'

# All four questions, then the hand-in; finished parts are reused.
homework: $(VENV)/.reporting
	-$(BIN)/hw2 data fetch fashion-mnist
	$(BIN)/hw2 homework --preset '$(PRESET)' --out '$(OUT)' $(if $(AUTHOR),--author "$$AUTHOR")

report: $(VENV)/.reporting
	$(BIN)/hw2 report --out '$(OUT)' $(if $(AUTHOR),--author "$$AUTHOR")

lint: $(VENV)/.tested
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/deptry hwcli

# After a change of a config field: a test holds the schemas to the models.
schemas: $(VENV)/.installed
	for name in $(filter-out __init__,$(notdir $(basename $(wildcard hwcli/experiments/*.py)))); do \
	  $(BIN)/hw2 config schema $$name >configs/schemas/$$name.json || exit 1; done

# README's and docs' pictures: what the commands print now, and the reference hand-in's first page.
pictures: $(VENV)/.reporting
	$(BIN)/python docs/pictures/make.py

test: lint
	$(BIN)/pytest -n 2

test-slow: $(VENV)/.clustered
	$(BIN)/pytest -n 2 -m slow -rs

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
