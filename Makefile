# `make help` lists the targets. Everything runs in .venv, which the first call sets up.
ARGS ?=
PYTHON ?= $(shell for python in python3 python3.12 python3.11 python3.13; do \
	$$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null \
	&& echo $$python && break; done)
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help train test test-floor test-wheel check docs clean

help: ## this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1|/' | \
		while IFS='|' read -r name what; do printf '  make %-10s %s\n' "$$name" "$$what"; done
	@echo "  ARGS=\"...\" is passed on: make train ARGS=\"dataset=voc dataset.root=PATH\""

train: .venv/.installed ## python train.py $ARGS: without ARGS the built-in data, results in outputs/
	$(BIN)/python train.py $(ARGS)

test: .venv/.installed-dev ## the whole test suite on three processes, which fill two cores
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 3 --dist worksteal $(ARGS)

test-floor: .venv-floor/.installed-dev ## the suite with the oldest versions that pyproject.toml declares
	OMP_NUM_THREADS=1 .venv-floor/bin/python -m pytest -n 3 --dist worksteal $(ARGS)

test-wheel: ## a wheel of what is committed, in an environment and a folder without anything else: does it train?
	set -e; place=$$(mktemp -d); trap 'rm -rf "$$place"' EXIT; \
	git clone --quiet . "$$place/clone"; $(PYTHON) -m venv "$$place/env"; mkdir "$$place/folder"; \
	"$$place/env/bin/python" -m pip install --quiet --constraint constraints.txt "$$place/clone"; \
	cd "$$place/folder"; "$$place/env/bin/segmentation" --version; \
	"$$place/env/bin/segmentation" train dataset.train=8 dataset.val=4 dataset.test=4 dataset.size=64 trainer.max_epochs=1 name=wheel; \
	"$$place/env/bin/segmentation" evaluate checkpoint="$$(echo outputs/*/*)"

check: .venv/.installed-dev ## format, lint and types, as pre-commit runs them
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

docs: .venv/.installed-dev ## the documentation as a site in site/; to search in it: python -m http.server --directory site
	PYTHONPATH=docs $(BIN)/zensical build --strict --clean

clean: ## removes the set-up and the caches; runs in outputs/ stay
	rm -rf site .cache .venv .venv-floor .pytest_cache .mypy_cache .ruff_cache *.egg-info

.venv/bin/python .venv-floor/bin/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11, 3.12 or 3.13 is needed: install one, or name it with PYTHON=..."; exit 2; }
	$(PYTHON) -m venv $(@:/bin/python=)

.venv/.installed: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	@touch $@

.venv/.installed-dev: .venv/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

.venv-floor/.installed-dev: .venv-floor/bin/python pyproject.toml constraints-floor.txt
	.venv-floor/bin/python -m pip install --quiet --constraint constraints-floor.txt --editable '.[dev]'
	@touch $@
