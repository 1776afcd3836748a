# `make demo` and `make test` work from a fresh clone; everything lives in .venv and out/.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
BIN := .venv/bin
# tests at a time: an analysis takes about 2 GB; one more than cores, for some wait for archives and windows
JOBS ?= $(shell n=$$(nproc); echo $$(( n < 3 ? n + 1 : 4 )))
# a process that crashes ends the run: xdist waits for ever for the next one, if files are handed out whole
PARALLEL := --max-worker-restart=0 -n
PYTEST := tools/with_display.sh env OMP_NUM_THREADS=1 $(BIN)/pytest $(PARALLEL) $(JOBS) --dist loadfile
BESIDE := tools/beside.sh $(MAKE) --no-print-directory  # no core waits for mypy, which takes but one
COVERAGE := -p pytest_cov --cov --cov-report=term:skip-covered --cov-report=xml

unexport PYTHONDONTWRITEBYTECODE  # each process of the tests would compile every module anew

# Files whose tests prepare whole studies, train or write networks: measured, most of the unit tests' time.
UNHURRIED := napari/ followup/ export/dicom/ test_lens.py site/cohort/ site/pacs/ preparation/ engines/ \
  research/ training/ synth/ reading/test_sequence_from_image.py base/test_killed.py test_study_geometry.py test_platforms.py \
  test_intensity_units.py review/test_from_dicom.py export/test_without_contrast.py \
  export/test_bids.py cli/test_export.py
QUICK := tests/unit tests/property tests/architecture -m "not slow and not gui" $(foreach part,$(UNHURRIED),--ignore-glob='*/$(part)*')

.PHONY: demo quick test test-all docs lint format types types-windows layers install system audit hashes clean help

help:
	@echo "make demo      analyse the sample patient and show it in napari (a picture without a display)"
	@echo "make quick     unit, property and architecture tests without window and whole analyses, in about two minutes"
	@echo "make test      lint, types and the default tests (one of them holds the layers)"
	@echo "make test-all  the same with the slow tests, types as on Windows, and which lines they reach"
	@echo "make audit     known weaknesses of the pinned dependencies, by pip-audit (asks the network)"
	@echo "make hashes    constraints-hashes.txt: the pinned dependencies with their hashes (asks the network)"
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

format: install
	@$(BIN)/ruff check --fix . && $(BIN)/ruff format .

types: install
	@$(BIN)/mypy

types-windows: install  # without the scripts that read memory and load as Unix tells them
	@$(BIN)/mypy --platform win32 --exclude '^training/' --cache-dir .mypy_cache/win32

layers: install
	@$(BIN)/lint-imports --no-logo

quick: install
	@OMP_NUM_THREADS=1 $(BIN)/pytest -q $(PARALLEL) $$(nproc) --dist worksteal $(QUICK)

test: system install
	@$(BESIDE) lint types -- $(PYTEST) -m "not slow"

test-all: system install
	@$(BESIDE) lint types types-windows -- $(PYTEST) $(COVERAGE)

docs: install
	@$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[docs,cohort]"
	@NO_MKDOCS_2_WARNING=1 PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m mkdocs build --quiet
	@echo "out/site/index.html"

audit: install
	@$(BIN)/python -m pip install --quiet pip-audit
	@$(BIN)/pip-audit --requirement constraints.txt --no-deps --disable-pip

hashes: install
	@$(BIN)/python -m pip install --quiet uv
	@$(BIN)/uv pip compile pyproject.toml --all-extras --constraint constraints.txt --universal --python-version 3.11 \
	  --generate-hashes --no-annotate --custom-compile-command "make hashes" --quiet --output-file constraints-hashes.txt

clean:
	rm -rf .venv out build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage coverage.xml
