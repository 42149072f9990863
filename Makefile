# Two commands for a fresh machine: `make review` and `make test`. All else is for developers.
VENV   ?= .venv
PYTHON ?= python3
BIN    := $(VENV)/bin
JOBS   ?= 4

.PHONY: review test check bench docs clean setup dev

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
	$(BIN)/parallelai review "src/**/*.py"

test: dev
	$(BIN)/python -m pytest -n $(JOBS)

check: dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: dev
	$(BIN)/python -m benchmarks $(BENCH)

docs: dev
	$(BIN)/python -m mkdocs build --strict

clean:
	rm -rf $(VENV) dist site .mypy_cache .ruff_cache .hypothesis
