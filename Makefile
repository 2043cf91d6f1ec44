# `make` lists the targets. Each installs what it needs first (scripts/setup); PYTHON names the interpreter.

PYTHON ?=
SETUP = PYTHON='$(PYTHON)' scripts/setup
BIN = .venv/bin
ARGS ?=
PARALLEL = -n auto --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help setup demo lab test conformance cpython bench bench-loss flood blind fuzz soak check format docs snapshots clean bench-core hot test-hot

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile

setup: ## make .venv and install the programs the tests talk to
	@$(SETUP) tools

demo: ## a handshake, 10 MB each way and the close, against the kernel's TCP (root)
	@$(SETUP)
	@$(BIN)/usertcp demo $(ARGS)

lab: ## every scenario, against the kernel's TCP (root)
	@$(SETUP)
	@$(BIN)/usertcp lab --all $(ARGS)

test: ## the whole test suite, a process for each CPU (root for tests/netns); ARGS="-k handshake" selects
	@$(SETUP) tools
	@$(BIN)/python -m pytest $(PARALLEL) $(ARGS)

conformance: ## what the standards ask, by the tests that show it, run twice in virtual time; writes docs/conformance.md
	@$(SETUP)
	@$(BIN)/python -m tests.conformance

cpython: ## CPython's own network tests on usertcp.socket, beside the kernel; ARGS="test_ftplib" selects
	@$(SETUP) cpython
	@$(BIN)/python -m tests.cpython $(ARGS)

bench: ## speed beside the kernel's and other stacks', some 15 minutes (root); ARGS="--quick" in short
	@$(SETUP) bench
	@$(BIN)/python -m benchmarks.speed $(ARGS)

bench-core: ## the cost of a segment, in process, compared with the stored one; ARGS=--update stores it
	@$(SETUP)
	@$(BIN)/python -m benchmarks.core $(ARGS)

bench-loss: ## goodput under loss beside the kernel's, some 20 minutes (root); ARGS="--quick" in short
	@$(SETUP)
	@$(BIN)/python -m benchmarks.loss $(ARGS)

flood: ## 50,000 forged SYNs while clients connect, with SYN cookies and without (root)
	@$(SETUP)
	@$(BIN)/python -m benchmarks.flood $(ARGS)

blind: ## 100,000 guesses of every kind at a connection, in process
	@$(SETUP)
	@$(BIN)/python -m benchmarks.blind $(ARGS)

soak: ## 200 connections at a time under loss and outages, every byte hashed, nothing may grow (root); ARGS="--minutes 60"
	@$(SETUP) tools
	@$(BIN)/python -m benchmarks.soak $(ARGS)

fuzz: ## fuzz the stack, the parsers, the socket API and the engine, a minute each; ARGS="--seconds 1800 --target stack"
	@$(SETUP) fuzz
	@$(BIN)/python -m tests.fuzz $(ARGS)

hot: ## the core compiled by mypyc, in build/hot (build/hot/bin/usertcp)
	@$(SETUP) hot
	@scripts/hot

test-hot: hot ## the test suite on the compiled core; ARGS="tests/unit" selects
	@cd build/hot && ../../$(BIN)/python -m pytest $(PARALLEL) $(ARGS)

check: ## ruff, mypy --strict on package, tests and benchmarks, the import layers, the ledger of conformance
	@$(SETUP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy --strict usertcp tests benchmarks
	$(BIN)/python -m pytest -q tests/unit/test_layers.py tests/unit/test_conformance.py

format: ## let ruff format and mend what it can
	@$(SETUP)
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

snapshots: ## write the tables in tests/sim/snapshots anew: look at the difference before you commit it
	@$(SETUP)
	@$(BIN)/python -m pytest -q tests/sim/test_tables.py --snapshot-update

docs: ## the state diagram and docs/conformance.md anew, from the code, the ledger and the tests' marks
	@$(SETUP)
	@$(BIN)/python scripts/draw_states.py
	@$(BIN)/python -m tests.conformance --draw

clean: ## remove .venv, caches and what was built
	rm -rf .venv build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
