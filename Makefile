# Two commands: `make book` and `make test`. Both make their own .venv first.

MAKEFLAGS += --no-print-directory
JOBS ?= 2
PORT ?= 8000

# The first Python on the path that is new enough; PYTHON=... overrides it.
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for p in python3 python python3.13 python3.12 python3.11; do \
	$$p -c '$(NEW_ENOUGH)' >/dev/null 2>&1 && { echo $$p; break; }; done)

VENV := .venv
ifeq ($(OS),Windows_NT)
BIN := $(VENV)/Scripts
else
BIN := $(VENV)/bin
endif
PY := $(BIN)/python
INSTALLED := $(VENV)/.installed
PACKAGE := $(wildcard unet_np/*.py unet_np/*/*.py unet_np/*/*/*.py)
NBVAL := --nbval --nbval-current-env --nbval-cell-timeout=300 --nbval-sanitize-with=tests/nbval.cfg
# Of notebooks that share two cores, the longest takes 64 s with one thread of BLAS, and 175 s with
# two. What needs more asks for them: cells that compare rates, tests of BLAS's threads.
SIDE_BY_SIDE := OPENBLAS_NUM_THREADS=1

export PYTHONUTF8 := 1
# A kernel that the user installed elsewhere under the same name must not run the notebooks.
export JUPYTER_PREFER_ENV_PATH := 1
export JUPYTER_PLATFORM_DIRS := 1

.PHONY: help install book pages pdf serve launch links test lint types unit nbval notebooks bench fuzz clean
.DEFAULT_GOAL := help

help:
	@echo "make book       build the book into _build/html"
	@echo "make serve      serve the built book on http://localhost:$(PORT)"
	@echo "make test       all checks: ruff, mypy, pytest, and every notebook against its stored outputs"
	@echo "make pdf        print the book into _build/pdf; needs Chromium or Chrome"
	@echo "make pages      build the book, then test its pages in a browser"
	@echo "make launch     run every notebook with the installed package alone, as Colab does"
	@echo "make notebooks  run the notebooks again and store their outputs (NOTEBOOKS=... for some of them)"
	@echo "make bench      speed and memory against PyTorch, into results/bench-cpu.json (minutes)"
	@echo "make fuzz       mutated PNG, JPEG and TIFF files through the reader of images"
	@echo "make clean      delete what the commands above made, .venv excepted"

install: $(INSTALLED)

$(INSTALLED): requirements.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python: got none >= 3.11 on the path, expected one; set PYTHON=..." >&2; exit 2; }
	@test -x $(PY) || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo "venv: could not be made; on Debian and Ubuntu: apt install python3-venv" >&2; exit 2; }
	$(PY) -m pip install --disable-pip-version-check --quiet -r requirements.txt
	@touch $@

# The cache of executed notebooks knows their cells, not the package that they import.
_build/.package: $(PACKAGE) requirements.txt
	@rm -rf _build/.jupyter_cache
	@mkdir -p _build
	@touch $@

# Chapters get their numbers when pages are read, so another order of them reads all pages anew.
_build/.toc: _toc.yml _config.yml
	@rm -rf _build/.doctrees
	@mkdir -p _build
	@touch $@

# Sphinx shows a warning once, when it reads a page, so a failed build forgets what it has read.
# Notebooks are run side by side into the cache that it reads; one that fails is run again by it, and named.
book: $(INSTALLED) _build/.package _build/.toc
	@export UNET_NP_BACKEND=$${UNET_NP_BACKEND:-numpy} JUPYTERCACHE=_build/.jupyter_cache $(SIDE_BY_SIDE); \
		echo y | $(BIN)/jcache notebook add book/*.ipynb >/dev/null && \
		$(BIN)/jcache project execute -e local-parallel -t 600 -v ERROR >/dev/null 2>&1 || true
	@UNET_NP_BACKEND=$${UNET_NP_BACKEND:-numpy} $(BIN)/jupyter-book build . -q -n -W --keep-going \
		|| { rm -rf _build/.doctrees _build/html/.doctrees _build/html/.buildinfo; exit 1; }
	@echo "The book is built. Open $(CURDIR)/_build/html/index.html, or run: make serve"

# Part of `make test` too, for a book that is built; a browser must be installed.
pages: book
	$(PY) -m pytest -q -n $(JOBS) --dist worksteal tests/test_pages.py

pdf: book
	@$(PY) tools/pdf.py

serve:
	@test -f _build/html/index.html || $(MAKE) book
	@echo "http://localhost:$(PORT)/ (Ctrl-C stops)"
	@$(PY) -m http.server $(PORT) --bind 127.0.0.1 --directory _build/html

# Every notebook from the package alone, in a folder of its own; `make test` does so with some.
launch: $(INSTALLED)
	UNET_NP_LAUNCH=all $(SIDE_BY_SIDE) $(PY) -m pytest -q -n $(JOBS) --dist worksteal tests/test_launch.py

# Needs the network, unlike everything else.
links: $(INSTALLED)
	$(BIN)/jupyter-book build . -q --builder linkcheck

# The book comes before the tests, which then read its pages in a browser.
test: export UNET_NP_REQUIRE_BOOK := 1
test: lint types book unit nbval

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache

types: $(INSTALLED)
	$(BIN)/mypy

unit: $(INSTALLED)
	$(SIDE_BY_SIDE) $(PY) -m pytest -q -n $(JOBS) --dist worksteal

# A notebook's cells run in order, so one worker takes a whole notebook. Stored outputs are NumPy's.
nbval: $(INSTALLED)
	UNET_NP_BACKEND=numpy $(SIDE_BY_SIDE) $(PY) -m pytest -q -n $(JOBS) --dist loadfile $(NBVAL) book

notebooks: $(INSTALLED)
	UNET_NP_BACKEND=numpy $(PY) tools/notebooks.py $(NOTEBOOKS)

# Ten thousand mutated files through the reader of images (a minute); FUZZ="--seed 1" for others.
fuzz: $(INSTALLED)
	$(PY) -m tools.fuzz_images $(FUZZ)
	$(PY) -m tools.fuzz_files $(FUZZ)
	$(PY) -m tools.fuzz_kills

bench: $(INSTALLED)
	$(PY) -m bench network --out results/bench-cpu.json --picture results/roofline-cpu.png $(BENCH)

clean:
	rm -rf _build build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
