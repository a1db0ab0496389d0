# Everything by one word. `make setup` comes first in each and is silent when nothing is missing.
.DEFAULT_GOAL := help
.PHONY: help setup bench test fleet lint features lock clean
bin := .venv/bin

help:  ## this list
	@sed -n 's/^\([a-z]*\):.*## /make \1\t/p' $(MAKEFILE_LIST) | expand -t 14

setup:  ## virtual environment with locked versions, and the system packages (as root)
	@./playbooks/setup

bench: setup  ## compare the proxy modes; the report is in results/latest
	@PATH="$(CURDIR)/$(bin):$$PATH" $(bin)/pytest benchmarks/ $(ARGS)

test: lint  ## lint, then all tests; what this kernel lacks runs in a VM
	@PATH="$(CURDIR)/$(bin):$$PATH" $(bin)/pytest $(ARGS)

lint: setup  ## ruff and mypy
	@$(bin)/ruff check --quiet .
	@$(bin)/ruff format --check --quiet .
	@$(bin)/mypy

fleet: setup  ## virtual machines made a cluster, measured, taken away (as root; KVM or emulation)
	@.ci/fleet

features: setup  ## write docs/features.md anew from the tests' markers
	@$(bin)/python tests/features.py

lock: setup  ## write requirements.lock anew from pyproject.toml
	@$(bin)/python -m venv .venv/lock && .venv/lock/bin/pip install --quiet pip-tools
	@.venv/lock/bin/pip-compile --quiet --extra dev --strip-extras --allow-unsafe --build-deps-for editable \
	    --no-header --no-annotate --no-emit-index-url --no-emit-find-links --no-emit-trusted-host \
	    --no-emit-options --output-file .venv/lock/new pyproject.toml
	@(sed -n '/^#/p;/^[^#]/q' requirements.lock; grep '^[^#]' .venv/lock/new) > .venv/lock/whole
	@mv .venv/lock/whole requirements.lock && rm -rf .venv/lock

clean:  ## remove what was made here (clusters are taken down by `testbed down --all`)
	@rm -rf .venv build dist results artifacts .benchmarks .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
