# `make demo` and `make test` set up all they need in .venv. PYTHON chooses the interpreter that makes it (3.11 or 3.12).
PYTHON ?= python3
BIN := .venv/bin
export DAGSTER_HOME := $(CURDIR)/storage

.PHONY: demo test ui lint bench clean

demo: .venv/ready
	$(BIN)/python -m itool_pipeline run demo

test: .venv/ready lint
	$(BIN)/python -m pytest

ui: .venv/ready
	$(BIN)/dagster dev --workspace workspace.yaml

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; assert (3, 11) <= sys.version_info < (3, 13), "needs Python 3.11 or 3.12: make PYTHON=..."'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch .venv/ready

bench: .venv/ready
	$(BIN)/python -m itool_pipeline_tests.bench

clean:
	rm -rf .venv
