# The commands of the course. They work from any folder (make -C path/to/this/folder course), and offline once set up.
# Variables: PYTHON (interpreter to build .venv with), PROFILE (quick, default or gpu), TORCH_INDEX_URL (see README),
# JOBS (notebooks, or tests, at a time; they share the cores).

.DEFAULT_GOAL := help
.PHONY: help setup course lab site test portable elsewhere oldest lint bench gpu doctor wheels lock clean
.SUFFIXES:

unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV
PROFILE ?= quick
JOBS ?= 2
IN := .venv/bin/python -m

help: ## list these commands
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1|\2/p' Makefile | awk -F '|' '{printf "%-17s %s\n", $$1, $$2}'

setup: ## make .venv and install the course into it (the commands below do this by themselves)
	@starter=$$(command -v python3 || command -v python3.14 || command -v python3.13 || command -v python3.12 || command -v python3.11 \
	    || command -v "$(PYTHON)") \
	    || { echo "set-up failed: no Python was found. Install Python 3.11 to 3.14 (python.org)." >&2; exit 1; }; \
	"$$starter" .ci/setup.py

course: setup ## run every notebook (profile quick) and compare its numbers with the recorded ones
	@.venv/bin/anytext course run --profile $(PROFILE) --jobs $(JOBS) --check

lab: setup ## open the course in JupyterLab, on copies of your own in work/
	@.venv/bin/anytext course lab -- $(LAB_ARGS)

site: setup ## build the course as a site for a browser, from the saved pages: build/site/index.html
	@.venv/bin/anytext course site

test: setup ## lint, then run every test, the notebooks included
	@$(IN) ruff check --quiet .
	@$(IN) mypy --no-error-summary
	@$(IN) pytest --numprocesses=$(JOBS) --dist=worksteal $(PYTEST_ARGS)

portable: setup ## measure how far every recorded number spreads over instruction sets and threads (hours; goes on)
	@$(IN) tests.portability --profile $(PROFILE) --jobs $(JOBS) $(SWEEP_ARGS)

elsewhere: setup ## golden tests and notebooks 03 05 06 08 14 as on two other processors (SSE4.1; AVX2)
	@$(IN) tests.portability --fast --jobs $(JOBS)

oldest: ## golden and unit tests with the oldest versions that pyproject.toml allows (needs python3.11 and the network)
	python3.11 -m venv build/oldest
	build/oldest/bin/python -m pip install --quiet --requirement .ci/oldest.lock --editable .
	build/oldest/bin/python -m pytest --numprocesses=$(JOBS) --dist=worksteal $(PYTEST_ARGS) tests/golden tests/unit

lint: setup ## check the style of the code and the notebooks, and the calls and names of the library (mypy)
	@$(IN) ruff check .
	@$(IN) mypy

bench: setup ## time the OCR losses against a reference that works as upstream does
	@$(IN) pytest tests/benchmarks --benchmark-only $(PYTEST_ARGS)

gpu: setup ## measure all on one GPU in ten minutes and write it into the course (GPU_ARGS=--dry-run: rehearse on the CPU)
	@$(IN) tests.gpu $(GPU_ARGS)

doctor: setup ## say what this machine offers: versions, device, memory, weights, fonts
	@.venv/bin/anytext doctor

wheels: setup ## build the wheels of the library and of its samples into dist/, to be used outside of this folder
	@.venv/bin/python .ci/wheels.py

lock: setup ## write the lock files anew from pyproject.toml (UPGRADE=--upgrade also takes newer versions)
	@.venv/bin/python .ci/lock.py $(UPGRADE)

clean: ## remove .venv, caches and executed notebooks
	rm -rf .venv .setup.log .pytest_cache .ruff_cache .mypy_cache .hypothesis .benchmarks build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
