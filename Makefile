# `make demo` and `make test` set up all they need in .venv. PYTHON chooses the interpreter that makes it (3.11 or 3.12).
PYTHON ?= python3
BIN := .venv/bin
export DAGSTER_HOME := $(CURDIR)/storage

.PHONY: demo test ui lint bench conformance mutants drills confirm-versions clean

demo: .venv/ready
	$(BIN)/python -m itool_pipeline run demo

# Two processes of a thread each: most of the tests wait for processes of their own. What needs more threads asks for them.
PROCESSES ?= 2
test: .venv/ready lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(PROCESSES) --dist loadfile

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

# Tables, and their rows in storage/bench: search, training, sft, processes, loop; BENCH="scaling scoring rows" names others.
bench: .venv/ready
	$(BIN)/python -m itool_pipeline_tests.bench

# The official command line scores what we scored: mutated gold answers to every case, with their calls in SYNTAX; with
# EXPERIMENT=demo, its cases.
SYNTAX ?= python
conformance: .venv/ready
ifdef EXPERIMENT
	$(BIN)/python -m itool_pipeline conformance $(EXPERIMENT)
else
	$(BIN)/python -m itool_pipeline_tests.benchmarks.bfcl.gold_answers storage/conformance/answers.jsonl 0 $(SYNTAX)
	$(BIN)/python -m itool_pipeline conformance --answers storage/conformance/answers.jsonl --calls $(SYNTAX)
endif

# What may happen to a run, tried many times and counted: kills, full disks, hostile inputs. DRILLS="kills_ray --tries 5" chooses.
drills: .venv/ready
	$(BIN)/python -m itool_pipeline_tests.robustness $(DRILLS)

mutants: .venv/ready
	$(BIN)/python -m itool_pipeline_tests.mutation_check

# After a change of code: the versions of the steps are right, raised where a step makes something else.
confirm-versions: .venv/ready
	$(BIN)/python -m itool_pipeline_tests.source_versions

clean:
	rm -rf .venv .venv-conformance
