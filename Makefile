# OBDB Lab. Every target does its own set-up on a fresh Linux machine with Python 3.11 or newer.
# make lab | make batch [DATA=folder] [SET="NAME=VALUE ..."] | make test | make stop | make help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PORT ?= 8888
DATA ?=
SET ?=
.DEFAULT_GOAL := help
.PHONY: lab batch test stop help install browser lint pytest bench

help: ## show this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 18

install: $(STAMP) ## make .venv with the pinned packages (all other targets do it, too)

$(STAMP): requirements.txt pyproject.toml docker/install_venv.sh
	@PYTHON="$(PYTHON)" sh docker/install_venv.sh $(VENV)
	@touch $@

lab: $(STAMP) ## database, sample field and JupyterLab on http://127.0.0.1:8888 (PORT=...)
	@$(BIN)/python -m obdb_lib.cli.lab start --port $(PORT) $(LAB_FLAGS)

# By the environment and as written: quotes, spaces and dollars of SET and DATA are not for make or the shell to read.
batch: export BATCH_DATA = $(value DATA)
batch: export BATCH_SET = $(value SET)
batch: $(STAMP) ## run the five notebooks headless (DATA=folder, SET="NAME=VALUE ...")
	@$(BIN)/python -m obdb_lib.batch --data="$$BATCH_DATA" --sets="$$BATCH_SET"

test: lint pytest ## ruff, mypy and all tests (installs Chromium by apt when it can)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

pytest: $(STAMP) browser
	$(BIN)/python -m pytest

browser:
	@sh tests/browser/install_chromium.sh

bench: $(STAMP) ## the benchmarks of tests/benchmarks
	@for file in tests/benchmarks/[a-z]*.py; do $(BIN)/python -m tests.benchmarks.$$(basename $$file .py) --json || exit 1; done

stop: ## end JupyterLab and the embedded MongoDB of this folder
	@if [ -x $(BIN)/python ]; then $(BIN)/python -m obdb_lib.cli.lab stop; else echo "Nothing is installed here yet."; fi
