# Everything a fresh machine needs beyond python3 (3.11 or newer, with venv), git and make is set up here.
PYTHON ?= python3
VENV   := .venv
BENCH  := .bench-venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check
ARGS   ?=
KILLS  ?= 1000
# Most tests wait for programs, servers and disks, so several at once are much faster. Those that judge what ran side
# by side have the machine for themselves.
JOBS   ?= 3
INSPECTOR := @modelcontextprotocol/inspector@2.12.0
# Where the demo keeps its runs: nothing for a file, `postgres` for a PostgreSQL that it starts itself, or a URL.
STORE  =
NAMED  = $(if $(filter postgres,$(STORE)),postgres:,$(STORE))

# Byte code makes every start faster; a machine that forbids writing it would slow each command.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test check bench crash clean
help:
	@echo "make demo    set up, then let four agents study this folder in parallel   (ARGS='--path DIR')"
	@echo "             STORE=postgres keeps it in a PostgreSQL that is started for it"
	@echo "make test    set up, then run every check: style, types, floors, tests"
	@echo "make check   style, types and floors only"
	@echo "make bench   set up other engines, and measure beside them and bare asyncio   (ARGS='--rounds 3', ARGS=--quick)"
	@echo "make crash   kill and freeze workers, over and over, on both databases   (KILLS=1000)"
	@echo "make clean   remove what was set up"

demo: $(VENV)/.$(if $(filter postgres%,$(STORE)),demo-postgres,llm)
	@$(BIN)/fanfold demo $(if $(STORE),--store '$(NAMED)') $(ARGS)

test: check $(VENV)/.inspector
	$(BIN)/python -m tests.exports.browser
	$(BIN)/python -m pytest -q -n $(JOBS) --dist loadfile --max-worker-restart 0 --ignore tests/proof --ignore tests/bench --cov --cov-report= $(ARGS)
	$(BIN)/python -m pytest -q tests/proof tests/bench --cov --cov-append --cov-report= $(ARGS)
	$(BIN)/python -m coverage report --include='*/fanfold/kernel/*' --fail-under=100
	$(BIN)/python -m coverage report --fail-under=90

check: $(VENV)/.dev
	$(BIN)/ruff format --check src tests bench examples
	$(BIN)/ruff check src tests bench examples
	$(BIN)/mypy
	$(BIN)/lint-imports

# 1 when a bar is missed.
bench: $(BENCH)/.peers
	$(BENCH)/bin/python -m bench $(ARGS)

crash: $(VENV)/.dev
	$(BIN)/python -m tests.crash --kills $(KILLS) $(ARGS)

clean:
	rm -rf $(VENV) $(BENCH) .fanfold .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache .coverage* build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "fanfold needs Python 3.11 or newer, and $(PYTHON) is " + sys.version.split()[0] + "; name another with: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)

# A stamp per set of packages: the demo does not need what the tests need.
$(VENV)/.%: pyproject.toml | $(VENV)/bin/python
	$(PIP) --editable '.[$*]'
	@touch $@

# A client of the MCP server that shares no code with it. Its tests are skipped where there is no node, or no way to it.
$(VENV)/.inspector: Makefile | $(VENV)/bin/python
	@if ! command -v npm >/dev/null; then echo "npm is not installed: the tests with the MCP Inspector are skipped"; \
	elif npm install --silent --no-audit --no-fund --ignore-scripts --prefix $(VENV)/inspector $(INSPECTOR); then touch $@; \
	else echo "npm could not install $(INSPECTOR): the tests with it are skipped"; fi

# An environment of its own: what is compared with us is no part of what we are tested with.
$(BENCH)/.peers: bench/peers.txt pyproject.toml | $(VENV)/bin/python
	$(VENV)/bin/python -m venv $(BENCH)
	$(BENCH)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[fast,langgraph,postgres]' --requirement bench/peers.txt
	@touch $@
