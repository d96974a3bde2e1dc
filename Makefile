# make install | make demo | make test: each does all its own set-up, silently when nothing changed.
PYTHON ?= python3.11
VENV := .venv
DEVICE := $(shell nvidia-smi -L >/dev/null 2>&1 && echo cuda || echo cpu)
PIP := $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check
STAMP := $(VENV)/installed-$(DEVICE)

.PHONY: install demo test lint clean

install: $(STAMP)

$(STAMP): pyproject.toml $(wildcard requirements/*.txt)
	@echo "installing the $(DEVICE) set into $(VENV) (once; a few minutes)"
	@test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) -r requirements/$(DEVICE).txt
	@$(PIP) -r requirements/base.txt -r requirements/dev.txt
	@$(PIP) --no-deps -r requirements/torchrec.txt
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

demo: install
	@$(VENV)/bin/recsys demo --out demo

test: install
	@$(VENV)/bin/python -m pytest

lint: install
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy
	@$(VENV)/bin/lint-imports

clean:
	rm -rf $(VENV) demo build *.egg-info
