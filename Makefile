# `make study` and `make test` need python3 (3.11 or newer), pip and make; they set up the rest in .venv.
PYTHON ?= python3
# Not in requirements.txt: its builds for CPUs and for each version of CUDA are other files.
TORCH ?= torch==2.13.0
VENV := .venv
BIN := $(VENV)/bin
NNUNET ?= .nnunet
INSTALLED := $(VENV)/.installed
REPORT := reports/demo/html/index.html
SOURCES := $(wildcard ich/*.py ich/templates/* ich/templates/report/* notebooks/*.ipynb notebooks/profiles/demo.yaml)

.PHONY: help install wheels study test lint bench bench-nnunet fuzz test-browser lock clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(INSTALLED)  ## create .venv with the locked versions

$(INSTALLED): pyproject.toml requirements.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "ich needs Python 3.11 or newer; set PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check '$(TORCH)' -e '.[dev]'
	touch $@

wheels: ## fetch everything that install needs into wheels/, for machines without internet
	$(PYTHON) -m pip download --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.txt -d wheels
	$(PYTHON) -m pip download --quiet --disable-pip-version-check '$(TORCH)' 'setuptools>=77' -d wheels

study: $(REPORT)  ## run the demo study and make its report
	@echo "Report: $(REPORT)"

$(REPORT): $(INSTALLED) $(SOURCES)
	$(BIN)/ich study demo --overwrite

# A module stays on one process, as its tests share what takes minutes to make; those that take longest come first.
test: $(INSTALLED)  ## run all tests, notebooks included
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

test-browser: $(INSTALLED)  ## the tests that need Chromium (got if there is none): pages, JupyterLab, viewer and caliper
	$(BIN)/python -c 'import sys; from ich.pdf import find_browser; sys.exit(find_browser() is None)' \
	  || $(BIN)/playwright install chromium || echo 'No Chromium could be had: install one, or these tests are skipped.'
	$(BIN)/python -m pytest tests/test_pages_in_chromium.py tests/test_lab_in_chromium.py

lint: $(INSTALLED)  ## check style and types
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

bench: $(INSTALLED)  ## time what is meant to be fast
	for script in tests/benchmarks/bench_*.py; do $(BIN)/python $$script || exit 1; done

bench-nnunet: $(INSTALLED) $(NNUNET)/bin/nnUNetv2_train  ## nnU-Net and this package in the same time, 20 minutes on a CPU
	$(BIN)/python tests/benchmarks/nnunet_side_by_side.py $(NNUNET)

$(NNUNET)/bin/nnUNetv2_train:
	$(PYTHON) -m venv $(NNUNET)
	$(NNUNET)/bin/python -m pip install --quiet --disable-pip-version-check '$(TORCH)' nnunetv2==2.8.1

# atheris is for this alone, and not for every machine: it is no requirement.
fuzz: $(INSTALLED)  ## 130,000 mutated inputs through every reader; counts to reports/checks/fuzz.csv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check atheris==3.0.0
	PYTHONPATH=tests $(BIN)/python -m fuzz.fuzz_readers
	PYTHONPATH=tests $(BIN)/python -m fuzz.guided

lock: $(INSTALLED)  ## resolve the dependencies anew into requirements.txt, with hashes
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes --upgrade \
	  --no-annotate --no-header --quiet --output-file .lock.txt
	awk '/^[a-z0-9]/ {keep = !/^(torch|triton|nvidia|cuda)/} keep' .lock.txt > requirements.txt
	rm .lock.txt

clean:  ## remove the environment and caches, keep reports
	rm -rf $(VENV) *.egg-info .pytest_cache .mypy_cache .ruff_cache
