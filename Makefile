# make install | demo | test | gpu: each does all its own set-up, silently when nothing changed.
# TRIO=2.11 takes that torch, with the torchrec and fbgemm that load with it (requirements/torch-*).
PYTHON ?= $(firstword $(shell command -v python3.11 python3.12 python3.13) python3)
DEFAULT_TRIO := 2.13
TRIO ?= $(DEFAULT_TRIO)
PINS := requirements/torch-$(TRIO).txt
VENV := $(if $(filter $(DEFAULT_TRIO),$(TRIO)),.venv,.venv-$(TRIO))
DEVICE := $(shell nvidia-smi -L >/dev/null 2>&1 && echo cuda || echo cpu)
EXTRAS := $(if $(filter cuda,$(DEVICE)),fused,fused-cpu),dev,docs
# The pins replace the constraints of pip's own configuration, if it has any.
PIP := PIP_CONSTRAINT=$(PINS) $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check
STAMP := $(VENV)/installed-$(DEVICE)

.PHONY: install demo test gpu lint docs wheel clean

install: $(STAMP)

$(STAMP): pyproject.toml $(PINS) requirements/constraints.txt
	@echo "installing the $(DEVICE) set into $(VENV) (once; a few minutes)"
	@test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) --editable '.[$(EXTRAS)]'
	@$(PIP) --no-deps torchrec  # its metadata requires the CUDA build of fbgemm
	@touch $@

requirements/torch-%.txt:
	@echo "TRIO=$* is not one of: $(patsubst requirements/torch-%.txt,%,$(sort $(wildcard $(@D)/torch-*)))" >&2; exit 2

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
docs: install
	@NO_MKDOCS_2_WARNING=1 $(VENV)/bin/python -m mkdocs build --quiet --strict
	@echo "site/index.html; with search: $(VENV)/bin/python -m http.server --directory site"

# A wheel and a source distribution, in dist/.
wheel: install
	@$(VENV)/bin/python -m build --outdir dist

clean:
	rm -rf .venv .venv-2.* demo build dist site *.egg-info
