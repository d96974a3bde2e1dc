# make install | demo | test | gpu: each does all its own set-up, silently when nothing changed.
# TRIO=2.11 or 2.12 takes that torch, with the torchrec and fbgemm that load with it.
PYTHON ?= python3.11
TRIO ?= 2.13
VENV := $(if $(filter 2.13,$(TRIO)),.venv,.venv-$(TRIO))
DEVICE := $(shell nvidia-smi -L >/dev/null 2>&1 && echo cuda || echo cpu)
PIP := $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check
STAMP := $(VENV)/installed-$(DEVICE)

.PHONY: install demo test gpu lint clean

install: $(STAMP)

$(STAMP): pyproject.toml $(wildcard requirements/*.txt requirements/torch-$(TRIO)/*.txt)
	@echo "installing the $(DEVICE) set into $(VENV) (once; a few minutes)"
	@test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) -r requirements/torch-$(TRIO)/$(DEVICE).txt
	@$(PIP) -r requirements/base.txt -r requirements/dev.txt
	@$(PIP) --no-deps -r requirements/torch-$(TRIO)/torchrec.txt
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

demo: install
	@$(VENV)/bin/recsys demo --out demo

# Two workers: each takes whole files, so that what a file prepares is made once.
test: install
	@$(VENV)/bin/python -m pytest -n 2 --dist loadfile

# Everything that needs CUDA: the tests, then the benchmarks; leaves a record of what ran.
gpu: install
	@$(VENV)/bin/python -m benchmarks.gpu

lint: install
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy
	@$(VENV)/bin/lint-imports

# The site, in site/; a broken link or anchor is an error.
.PHONY: docs
docs: install
	@$(PIP) mkdocs-material==9.8.2
	@NO_MKDOCS_2_WARNING=1 $(VENV)/bin/python -m mkdocs build --quiet --strict
	@echo "site/index.html; with search: $(VENV)/bin/python -m http.server --directory site"

clean:
	rm -rf .venv .venv-2.* demo build *.egg-info
