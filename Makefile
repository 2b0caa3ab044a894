# The front door. `make demo` and `make test` set up all they need in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
PYTEST := $(BIN)/python -m pytest
MINUTES ?= 30
SEED ?= 1
# Where a machine forbids it (containers do), each of the suite's hundred processes would compile us again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo up test prove check format clean

# KEEP=1 leaves the watcher and its page up at the end, until Ctrl-C.
demo: $(VENV)/.run
	@$(BIN)/python examples/demo.py $(if $(KEEP),--keep)

up: $(VENV)/.run
	@test -n "$(DIR)" || { echo "say which folder: make up DIR=./output"; exit 2; }
	$(BIN)/lastgood up $(DIR)

test: $(VENV)/.dev
	$(PYTEST) -n 3 --dist loadfile --no-loadscope-reorder -m "not prove"

# Too long for the suite: seeded, time-boxed, printing its counts.
prove: $(VENV)/.prove
	PROVE_MINUTES=$(MINUTES) PROVE_SEED=$(SEED) $(PYTEST) -m prove -s --timeout 0

check: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --cache-dir .import_linter_cache

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

$(VENV)/.run: pyproject.toml constraints.txt
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(PIP) -e '.[all,torch]'
	touch $@

$(VENV)/.dev: pyproject.toml constraints.txt
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(PIP) -e '.[dev]'
	touch $(VENV)/.run $@

# Its wheels are for few machines, and only the long fuzzing needs them.
$(VENV)/.prove: $(VENV)/.dev
	$(PIP) -e '.[prove]'
	touch $@

clean:
	rm -rf $(VENV) .demo .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
