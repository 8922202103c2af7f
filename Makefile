# make help lists the targets. Variables to set on the command line:
#   PYTHON       the Python that creates the environment (3.11 or later)
#   VENV         the environment's folder
#   WORKERS      notebooks, or files of tests, that run at the same time, with THREADS threads each
#   PYTEST_ARGS  what pytest gets besides, such as PYTEST_ARGS='-k heads -x'
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: help demo dev test test-newest docs site clean

VENV ?= .venv
NEWEST ?= .venv-newest
WORKERS ?= 2
THREADS ?= 1
PYTEST_ARGS ?=

new_enough := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for p in python3.11 python3 python3.13 python3.12; do \
	$$p -c '$(new_enough)' 2>/dev/null && { echo $$p; break; }; done)

# Commands run with the environment's folder first on the PATH, so that `mtcs` in a notebook or a test is ours.
run = PATH="$(abspath $(VENV))/bin:$$PATH"
packaging := settings.ini setup.py pyproject.toml

help: ## list the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1|\2/p' $(firstword $(MAKEFILE_LIST)) | column -t -s '|' 2>/dev/null \
		|| sed -nE 's/^([a-z-]+):.*## (.*)/  make \1  \2/p' $(firstword $(MAKEFILE_LIST))

demo: $(VENV)/.installed ## train on the bundled data sets and show the results
	$(run) mtcs demo

dev: $(VENV)/.installed-dev ## set up the development environment

test: $(VENV)/.installed-dev ## run every notebook, then every test
	$(run) OMP_NUM_THREADS=$(THREADS) python tools/notebooks.py --workers $(WORKERS)
	$(run) OMP_NUM_THREADS=$(THREADS) python -m pytest -n $(WORKERS) --dist loadfile $(PYTEST_ARGS)

test-newest: $(NEWEST)/bin/python ## run the tests on the newest fastai, fastcore, fasttransform and plum-dispatch
	$(NEWEST)/bin/python -m pip install --upgrade --upgrade-strategy eager pytest $$(sed -n 's/^requirements *= *//p' settings.ini \
		| tr ' ' '\n' | sed -E 's/^(fastai|fastcore|fasttransform|plum-dispatch)[<>=].*/\1/')
	$(NEWEST)/bin/python -m pip install --no-deps -e .
	PATH="$(abspath $(NEWEST))/bin:$$PATH" python -m pytest $(PYTEST_ARGS)

# README.md is written first: nbdev_docs would render its own where nbs/index.ipynb is the newer file.
docs: $(VENV)/.installed-dev ## write README.md from nbs/index.ipynb and, where quarto is installed, the site to _docs
	$(run) python tools/docs.py
	@if command -v quarto >/dev/null; then $(run) nbdev_docs; \
		else echo 'README.md is written. The site was left out: it needs quarto (https://quarto.org).'; fi

site: $(VENV)/.installed-site ## build the documentation as a website in _docs, with search: no quarto, no network
	$(run) python tools/site.py

clean: ## remove what builds, tests and docs leave behind; the environments stay
	rm -rf _proc _docs build dist *.egg-info .pytest_cache .coverage htmlcov nbs/nbdev.yml
	find . -name '.venv*' -prune -o -name .git -prune -o \( -name __pycache__ -o -name .ipynb_checkpoints \) -type d -print0 | xargs -0 rm -rf

%/bin/python:
	@p='$(PYTHON)'; [ -n "$$p" ] && "$$p" -c '$(new_enough)' || { \
		echo "tsai_mtcs needs Python 3.11 or later, found: $${p:-none}. Name one: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11" >&2; exit 1; }; \
	echo "$$p -m venv $*"; "$$p" -m venv $*

$(VENV)/.installed: $(packaging) | $(VENV)/bin/python
	$(VENV)/bin/python -m pip install -e .
	@touch $@

$(VENV)/.installed-dev: $(packaging) | $(VENV)/bin/python
	$(VENV)/bin/python -m pip install -e '.[dev]'
	@touch $(VENV)/.installed $@

$(VENV)/.installed-site: $(packaging) | $(VENV)/bin/python
	$(VENV)/bin/python -m pip install -e '.[dev,site]'
	@touch $(VENV)/.installed $(VENV)/.installed-dev $@
