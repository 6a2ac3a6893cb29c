# Everything a contributor runs. Each target sets `.venv` up when it has to; the second time takes no time.
# `make` alone explains the targets from their `##` comments.

.DEFAULT_GOAL := help
.NOTPARALLEL:
SHELL := /bin/sh

PYTHON ?= python3
BIN := .venv/bin
WORKERS ?= 2
ROUNDS ?= 1
FROM ?= 1
ARGS ?=

.PHONY: help
help:  ## this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z%-]+:.*## / {printf "  \033[1m%-12s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@printf '\nARGS passes options on, WORKERS sets test processes:\n'
	@printf '  make demo ARGS="--scenario bad-list"    make unit ARGS="-k token" WORKERS=0\n'

.PHONY: setup
setup:  ## make .venv from constraints.txt, by hash; done by every other target
	@$(PYTHON) tools/bootstrap.py true

.PHONY: demo
demo: setup  ## a whole campaign in waves, in virtual time, on made-up people
	@$(BIN)/sendwave demo $(ARGS)

.PHONY: test
test: lint types imports  ## everything: style, types, contracts, then every test
	$(BIN)/pytest -n $(WORKERS) $(ARGS)

.PHONY: lint
lint: setup  ## ruff (rules, then format) and deptry (unused or missing dependencies)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/deptry sendwave

.PHONY: format
format: setup  ## let ruff rewrite what it can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

.PHONY: types
types: setup  ## mypy --strict over the package
	$(BIN)/mypy

.PHONY: imports
imports: setup  ## import-linter: the contracts ARCHITECTURE.md names
	$(BIN)/lint-imports

.PHONY: unit
unit: setup  ## the quick tests: no killed processes, no mail servers
	$(BIN)/pytest -n $(WORKERS) -m "not crash and not acceptance" $(ARGS)

.PHONY: crash
crash: setup  ## kill real processes at every fault point; nobody twice, nobody lost
	$(BIN)/pytest -n $(WORKERS) -m crash $(ARGS)

RUNS ?= 500
.PHONY: kills
kills: setup  ## kill the daemon RUNS times on each kind of store and wire; ROUNDS=20 FROM=1: at other moments each round
	SENDWAVE_TEST_KILLS=$(RUNS) $(BIN)/python tools/rounds.py $(ROUNDS) $(FROM) \
		-q -n $(WORKERS) -p no:cacheprovider tests/crash/test_random_kills.py $(ARGS)

.PHONY: cluster
cluster: setup  ## three nodes on PostgreSQL: killed, asleep, cut off; ROUNDS=20 does it twenty times
	@$(BIN)/python tools/rounds.py $(ROUNDS) $(FROM) -q tests/cluster $(ARGS)

SEEDS ?= 200

.PHONY: simulation
simulation: setup  ## the whole daemon on a virtual clock: SEEDS=200 FROM=1; FROM=night draws new seeds, ARGS="--teeth"
	PYTHONPATH=tests/support $(BIN)/python -m simulation --seeds $(SEEDS) --from $(FROM) $(ARGS)

MINUTES ?= 5

.PHONY: nightly
nightly:  ## MINUTES of the simulation with new seeds each day; those that fail are kept in tests/simulation/seeds.txt
	$(MAKE) simulation FROM=night SEEDS=1000000 \
		ARGS="--minutes $(MINUTES) --keep-going --failures tests/simulation/seeds.txt $(ARGS)"

.PHONY: acceptance
acceptance: setup  ## whole campaigns against real servers on loopback
	$(BIN)/pytest -n $(WORKERS) -m acceptance $(ARGS)

.PHONY: conformance-spark
conformance-spark: setup  ## the score's statement on Spark too: installs it first (450 MB), needs Java 17
	@test -d .venv/spark/pyspark || $(BIN)/pip install --quiet --no-deps --target .venv/spark pyspark==4.3.0 py4j==0.10.9.9
	PYTHONPATH=.venv/spark $(BIN)/pytest -p no:cacheprovider -W default tests/conformance/score_spark.py $(ARGS)

.PHONY: browser
browser: setup  ## the pages in a real Chromium
	$(BIN)/pytest -n 0 -m browser $(ARGS)

.PHONY: explore
explore: setup  ## property tests with fresh random examples, many more of them
	SENDWAVE_TEST_PROFILE=explore $(BIN)/pytest -n $(WORKERS) -m "not crash and not acceptance" $(ARGS)

.PHONY: bench
bench: setup  ## every benchmark, one after the other
	@set -e; for file in benchmarks/bench_*.py; do echo "== $$file"; $(BIN)/python $$file; done

bench-%: setup  ## one benchmark: bench-NAME runs benchmarks/bench_NAME.py
	$(BIN)/python benchmarks/bench_$*.py $(ARGS)

.PHONY: lock
lock:  ## choose dependency versions anew (needs uv); constraints.txt names no host
	uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 --upgrade \
	    --generate-hashes --no-header --no-annotate --no-emit-index-url --quiet --output-file constraints.txt

.PHONY: diagram
diagram: setup  ## redraw the lifecycle in ARCHITECTURE.md from rules/lifecycle.py
	$(BIN)/python tools/lifecycle_diagram.py ARCHITECTURE.md

.PHONY: clean
clean:  ## remove .venv and every cache
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist
	find sendwave tests benchmarks tools -name __pycache__ -type d -prune -exec rm -rf {} +
