# `make demo` and `make test` work from a fresh clone; everything lives in .venv and out/.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
BIN := .venv/bin
# tests at a time: an analysis takes about 2 GB; one more than cores, for some wait for archives and windows
JOBS ?= $(shell n=$$(nproc); echo $$(( n < 3 ? n + 1 : 4 )))
# a process that crashes ends the run: xdist waits for ever for the next one, if files are handed out whole
PYTEST := tools/with_display.sh env OMP_NUM_THREADS=1 $(BIN)/pytest --max-worker-restart=0 -n $(JOBS) --dist loadfile
COVERAGE := -p pytest_cov --cov --cov-report=term:skip-covered --cov-report=xml

unexport PYTHONDONTWRITEBYTECODE  # each process of the tests would compile every module anew

.PHONY: help demo test tests nightly lint types format docs golden install system clean

help:
	@echo "make demo      analyse the sample patient and show it in napari (a picture without a display)"
	@echo "make test      lint, types and the tests that are not slow"
	@echo "make nightly   the same with the slow tests, types as on Windows, and which lines the tests reach"
	@echo "make golden    store the results of both samples as they are now, and print what changed"
	@echo "make format    format the code, and mend what ruff can mend"
	@echo "make docs      the documentation as a site in out/site; notebooks are run, a broken link is an error"

install: .venv/installed

.venv/installed: pyproject.toml constraints.txt tools/install.sh
	@tools/install.sh

system:
	@tools/system.sh

demo: system install
	@PATH="$(CURDIR)/$(BIN):$$PATH" tools/demo.sh

lint: install
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/npe2 validate --imports lesionlens
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/python tools/size.py

types: install
	@$(BIN)/mypy

format: install
	@$(BIN)/ruff check --fix . && $(BIN)/ruff format .

test: system install
	@$(MAKE) --no-print-directory --jobs=3 lint types tests

tests: install
	@$(PYTEST) -m "not slow"

nightly: system install
	@$(MAKE) --no-print-directory --jobs=2 lint types
	@$(BIN)/mypy --platform win32 --exclude '^training/' --cache-dir .mypy_cache/win32
	@$(PYTEST) $(COVERAGE)

golden: install
	@$(BIN)/python -m tests.golden.test_golden

docs: install
	@$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[docs,cohort]"
	@NO_MKDOCS_2_WARNING=1 PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m mkdocs build --quiet
	@echo "out/site/index.html"

clean:
	rm -rf .venv out build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage coverage.xml
