# Every target does its own set-up: `make demo`, `make serve` and `make test` work on a fresh clone.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3)
VENV := .venv
PY := $(VENV)/bin/python
IMPRIMATUR_PROFILE ?= evaluation
export IMPRIMATUR_PROFILE
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help setup demo serve test soak lint lock clean

help: ## show this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

$(VENV)/.runtime: deploy/requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info[:2] < (3, 13) else "Imprimatur needs Python 3.11 or 3.12; set PYTHON=/path/to/python3.11")'
	@test -x $(PY) || $(PYTHON) -m venv $(VENV)
	@echo "Installing the pinned dependencies (once; about 700 MB on disk) ..."
	@$(PY) -m pip install --quiet --require-hashes -r deploy/requirements.lock
	@touch $@

$(VENV)/.dev: deploy/requirements-dev.lock $(VENV)/.runtime
	@echo "Installing the development tools ..."
	@$(PY) -m pip install --quiet --require-hashes -r deploy/requirements-dev.lock
	@touch $@

setup: $(VENV)/.runtime ## build .venv, models, keys, certificates, database (all targets do this)
	@$(PY) manage.py prepare

# With several faces in a file, SOURCE_FACE=1 or TARGET_FACE=1 names one (the demo lists them).
demo: setup ## run the whole main job on sample media: make demo [SOURCE=a.jpg TARGET=b.mp4 OUT=c.mp4]
	@$(PY) manage.py demo $(if $(SOURCE),--source "$(SOURCE)") $(if $(TARGET),--target "$(TARGET)") $(if $(OUT),--out "$(OUT)") $(if $(SOURCE_FACE),--source-face "$(SOURCE_FACE)") $(if $(TARGET_FACE),--target-face "$(TARGET_FACE)")

serve: setup ## web server, worker and scheduler on http://127.0.0.1:8000 (Ctrl-C stops all)
	@$(PY) manage.py serve

# Files in their own order: the slow ones of browser and chaos come first, so that none is left alone at the end.
test: $(VENV)/.dev ## every test and linter; what CI runs
	@sh tests/services.sh
	@$(PY) manage.py models build
	@$(MAKE) --no-print-directory lint
	@. tests/services.env 2>/dev/null; $(PY) -m pytest -q -n 3 --dist loadfile --no-loadscope-reorder -m "not soak"; code=$$?; [ $$code -eq 1 ] || exit $$code; \
	echo "Some tests failed beside others. Each of them again, alone; one that fails twice is red:"; \
	$(PY) -m pytest -q --last-failed --last-failed-no-failures none -m "not soak"

soak: $(VENV)/.dev ## the long proofs
	@sh tests/services.sh
	@$(PY) manage.py models build
	@. tests/services.env 2>/dev/null; $(PY) -m pytest -q -m soak --timeout 3600

lint: $(VENV)/.dev
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/lint-imports --no-cache
	@$(VENV)/bin/mypy --no-error-summary watermark worker consent webapp manage.py
	@$(PY) manage.py makemigrations --check --dry-run

lock: ## pin the newest allowed versions, with hashes
	@$(PY) -m pip install --quiet uv
	@$(VENV)/bin/uv pip compile -q pyproject.toml --generate-hashes --no-header --python-version 3.11 --upgrade -o deploy/requirements.lock
	@$(VENV)/bin/uv pip compile -q pyproject.toml --extra kms-aws --extra kms-gcp --extra pkcs11 --generate-hashes --no-header --python-version 3.11 --upgrade -o deploy/requirements-signers.lock
	@$(VENV)/bin/uv pip compile -q pyproject.toml --extra dev --generate-hashes --no-header --python-version 3.11 --upgrade -o deploy/requirements-dev.lock

clean: ## remove .venv and everything local (models, database, keys, outputs)
	rm -rf $(VENV) var demo-output
