# The book's commands; `make` lists them. Each sets up in .venv what it needs (tools/setup.py; nothing when that is done).
# Paths are relative to this folder, so that it may lie anywhere, in a path with spaces too.

PY := $(if $(filter Windows_NT,$(OS)),.venv/Scripts/python.exe,.venv/bin/python)

# More threads than cores make training under parallel tests many times slower.
PYTEST := OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 --dist loadscope

# Those that the book has; what else somebody keeps in notebooks/ is not its business.
CHAPTERS := $(patsubst book/%.md,notebooks/%.ipynb,$(wildcard book/[0-9][0-9]_*.md))

.DEFAULT_GOAL := help
.PHONY: help setup lab original book notebooks assignments assignments-proof grade gradebook format check test test-numerics mutants nonsense bench clean

help:  ## list the commands
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/^([a-z-]+):[^#]*## /  make \1\t/' | expand -t 26

setup:  ## create .venv and install the book (PYTHON=... chooses the interpreter, 3.11 or newer)
	@for python in $(if $(PYTHON),"$(PYTHON)",$(PY) python3 python3.13 python3.12 python3.11 python); do \
		if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null; then \
			exec "$$python" tools/setup.py; \
		fi; \
	done; \
	echo '$(or $(PYTHON),This machine) has no Python 3.11 or newer. Name one: make setup PYTHON=/path/to/python3' >&2; exit 1

lab: setup  ## open your own copy of the book, my/, in JupyterLab (LAB_ARGS="--no-browser --port 8899" passes options on)
	$(PY) -m bookbuild lab $(LAB_ARGS)

original: setup  ## bring a chapter's original back into my/, yours kept under another name: CHAPTER=07 or assignments/01
	@$(PY) -m bookbuild copies --original "$(CHAPTER)"

book: setup  ## build the site in _build/site
	$(PY) -m bookbuild site

notebooks: setup  ## regenerate notebooks/ from book/ where a chapter changed (ALL=1: all of them)
	$(PY) -m bookbuild notebooks $(if $(ALL),--all)

assignments: setup  ## regenerate the student versions in notebooks/assignments/ from book/assignments/
	$(PY) -m bookbuild assignments

assignments-proof: setup  ## half an hour: mutants of the solutions, 100 seeds, and a hostile class of 30
	OMP_NUM_THREADS=1 $(PY) -m pytest -o timeout=7200 -o python_files='prove_*.py' -rP tests/proofs $(PROOF_ARGS)

grade: setup  ## grade a class: SUBMISSIONS=folder; marks and feedback go to folder-graded (GRADE_ARGS="--seed 7")
	$(PY) -m classroom grade $(if $(SUBMISSIONS),"$(SUBMISSIONS)") $(GRADE_ARGS)

gradebook: setup  ## the marks into nbgrader's gradebook, a person's marks out: SUBMISSIONS=folder (GRADE_ARGS=--serve)
	$(PY) -m classroom gradebook $(if $(SUBMISSIONS),"$(SUBMISSIONS)") $(GRADE_ARGS)

format: setup  ## format the code, in the chapters' and assignments' cells too
	$(PY) -m ruff format .
	$(PY) -m bookbuild cells --write

check: setup  ## the fast checks: lint, format, types, notebooks in step with their sources
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m bookbuild cells --check
	$(PY) -m mypy
	$(PY) -m bookbuild notebooks --check
	$(PY) -m bookbuild assignments --check

test: check  ## every test, every notebook included
	@$(PY) tools/system_packages.py
	$(PYTEST) tests
	$(PYTEST) -p no:cacheprovider --nbval-lax --nbval-current-env --nbval-cell-timeout=300 $(CHAPTERS)

test-numerics: setup  ## half an hour: the chapters with other roundings (old processors) and on 1 and 2 threads
	$(PY) -m tests.proofs.numerics $(CHAPTERS)

mutants: setup  ## half an hour: vaelib changed in one place at a time; do its tests notice? (MUTANTS="--sample 20 vae")
	$(PY) -m tests.proofs.mutate $(MUTANTS)

nonsense: setup  ## a quarter of an hour: nonsense in the place of what the chapters' assertions check (CHAPTERS_TRIED="03 07")
	$(PY) -m tests.proofs.nonsense $(CHAPTERS_TRIED)

bench: setup  ## speed of training beside the usual loop and the bare matrix products
	$(PY) tests/benchmarks/bench_fit.py

clean:  ## remove .venv, the site and all caches; never a notebook, and nothing of yours in my/
	rm -rf .venv _build build *.egg-info .pytest_cache .ruff_cache .mypy_cache
	find . -path ./my -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
