# Two commands for a fresh machine: `make review` and `make test`. All else is for developers.
VENV   ?= .venv
PYTHON ?= python3
BIN    := $(VENV)/bin
JOBS   ?= 4

# Tests start thousands of processes that import the package: all share its bytecode.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: review test clients check schemas bench bench-peers bench-history docs installs clean setup dev

# What a user needs: the package itself, with its loose lower bounds.
$(BIN)/.installed: pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

# What a developer needs: every tool at its pinned version, checked by hash.
$(BIN)/.installed-dev: requirements-dev.txt pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@ $(BIN)/.installed

setup: $(BIN)/.installed
dev: $(BIN)/.installed-dev

review: setup
	$(BIN)/parallelai review src examples

test: dev clients
	@$(BIN)/python -m compileall -q src
	$(BIN)/python -m pytest -n $(JOBS) --maxschedchunk 2

# The real assistants that tests drive, once; where they cannot be installed, those tests fail and say why.
clients: dev
	-@$(BIN)/python tests/clients/installing.py > /dev/null

check: dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# What is made from the code: after a change of a record, an event, an error, a plan key or a command.
schemas: dev
	$(BIN)/python -m parallelai.results.schemas
	$(BIN)/python -m parallelai.engines.schemas
	$(BIN)/python docs/generate.py

bench: dev
	$(BIN)/python -m benchmarks $(BENCH)

# Beside other people's programs, which are installed into build/peers the first time. Not a part of CI.
bench-peers: dev
	$(BIN)/python -m benchmarks.peers

# Branches of real history: REPO is a checkout of a repository that the data (DATA, or PARALLELAI_DATA) tells of.
bench-history: dev
	$(BIN)/python -m benchmarks.history "$(REPO)" $(if $(DATA),--data "$(DATA)")

docs: dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

clean:
	rm -rf $(VENV) dist site .mypy_cache .ruff_cache .hypothesis

# The three ways in which users install it, each from the wheel, into folders of their own.
installs: dev
	@rm -rf build/installs && mkdir -p build/installs
	@$(BIN)/python -m build --wheel --no-isolation --outdir build/installs . > /dev/null
	@$(PYTHON) -m venv build/installs/pip && build/installs/pip/bin/pip install --quiet --disable-pip-version-check build/installs/*.whl
	@build/installs/pip/bin/parallelai --version
	@PIPX_HOME=$(CURDIR)/build/installs/pipx PIPX_BIN_DIR=$(CURDIR)/build/installs/pipx/bin $(BIN)/pipx install --quiet build/installs/*.whl > /dev/null
	@build/installs/pipx/bin/parallelai --version
	@UV_TOOL_DIR=$(CURDIR)/build/installs/uv UV_TOOL_BIN_DIR=$(CURDIR)/build/installs/uv/bin $(BIN)/uv tool install --quiet --python $(BIN)/python build/installs/*.whl
	@build/installs/uv/bin/parallelai --version
	@rm -rf build/installs
