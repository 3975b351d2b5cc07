# README's commands. `make pipeline` and `make test` need nothing but Python 3.11-3.13, git and a package index.
PYTHON ?= python3
BIN := .venv/bin
# Nothing is left outside this folder.
export PIP_NO_CACHE_DIR := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export MLFLOW_DISABLE_TELEMETRY := true
export DO_NOT_TRACK := true
# OpenMP's threads, waiting for one another, must not take the cores of other processes.
export OMP_WAIT_POLICY ?= passive
export ORT_DISABLE_TELEMETRY := 1
export MPLCONFIGDIR := $(CURDIR)/.fusmae/matplotlib
# pip asks a Rust compiler for its version, and rustup's stand-in for one would then set up a home.
export RUSTUP_HOME ?= $(CURDIR)/.fusmae/rustup
# DVC's state: .dvc/config could name a relative folder only, with which `dvc exp run --temp` and `--queue` fail. So the
# environment's Python names it, to whatever it runs, activated or not; `make`, where the environment is an older one.
export DVC_SITE_CACHE_DIR ?= $(CURDIR)/.fusmae/dvc
define NAME_DVC_STATE
import os, sys; os.environ.setdefault("DVC_SITE_CACHE_DIR", os.path.join(os.path.dirname(sys.prefix), ".fusmae", "dvc"))
endef

.DEFAULT_GOAL := help
.PHONY: help checkout pipeline test test-all check audit bench study ui lock

help: ## these lines
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

pipeline: checkout .venv/installed ## fetch real pairs, train, evaluate, export, register; then say where to look
	$(BIN)/dvc repro
	@$(BIN)/python -m fusmae summary

# Workers share the cores: torch's threads, waiting for one another, would stand in the way. The longest tests come first,
# in the order of tests/tiers.py. The second tier waits for servers a good part of its time: three workers keep two cores busy.
define PYTEST
@tmp=$$(mktemp -d) && trap 'rm -rf "$$tmp"' EXIT \
	&& TMPDIR=$$tmp OMP_NUM_THREADS=1 $(BIN)/pytest -n $(1) --dist loadgroup --no-loadscope-reorder --durations=20
endef
# tests/tiers.py says which tests are of the second tier, and why.
SECOND_TIER := pipeline or servers or browser or installs or slow

test: check ## lint, types, contracts, then each test that needs no server, browser or run of the pipeline
	$(call PYTEST,2) -m "not ($(SECOND_TIER))"

test-all: test ## `make test`, then all other tests: they need PostgreSQL and Chromium, and take much longer
	$(call PYTEST,3) -m "$(SECOND_TIER)"

check: .venv/installed ## lint, security lint, types, import contracts and declared packages only
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/deptry --no-ansi fusmae flows benchmarks deploy
	$(BIN)/bandit --quiet --recursive --configfile pyproject.toml fusmae flows benchmarks deploy

audit: .venv/installed ## known vulnerabilities of the locked versions, where their data can be reached
	@$(BIN)/pytest -q -p no:cacheprovider tests/test_audit.py

bench: .venv/installed models/export/model.onnx ## measure the claims of benchmarks/: ratios of one run, written to benchmarks/results
	$(BIN)/python -m benchmarks.loader
	$(BIN)/python -m benchmarks.inference
	$(BIN)/python -m benchmarks.synthetic_world
	$(BIN)/python -m benchmarks.operator_sets
	$(BIN)/python -m benchmarks.threads

STUDY ?=
study: checkout .venv/installed ## compare pretrainings, baselines and no pretraining: study/report/report.html; STUDY='study_size=gpu' and the like
	$(BIN)/python -m fusmae study $(STUDY)
	cd study && PATH=$(CURDIR)/$(BIN):$$PATH dvc repro
	@echo "look at study/report/report.html"

models/export/model.onnx: .venv/installed
	$(BIN)/dvc repro export

ui: .venv/installed ## open the MLflow UI on http://127.0.0.1:5000
	$(BIN)/python -m fusmae ui

COMPILE := uv pip compile --universal --generate-hashes --no-header --no-emit-index-url --no-emit-find-links \
	--python-version 3.11 pyproject.toml

# The service's lock holds the very versions that the tests run on.
lock: ## write requirements.lock and those of the images anew (needs uv)
	$(COMPILE) $(addprefix --extra ,train rivals serve servers dev) -o requirements.lock
	$(COMPILE) --extra serve --constraints requirements.lock -o requirements-serve.lock
	$(COMPILE) --extra servers --constraints requirements.lock -o deploy/requirements.lock

# Said before minutes of installing. HEAD:./ is this folder's own: a git repository above it is another project's.
checkout:
	@said=$$(git cat-file -e HEAD:./dvc.yaml 2>&1) && exit 0; name=; \
	git var GIT_COMMITTER_IDENT > /dev/null 2>&1 || \
		name='git config user.name "$$(id -un)" && git config user.email "$$(id -un)@localhost" && '; \
	next="git init && $${name}git add --all && git commit -m 'As unpacked'"; \
	case "$$said" in \
		*"dubious ownership"*) next='git config --global --add safe.directory "$(CURDIR)"';; \
		*"not found"*) next='apt-get install git';; \
	esac; \
	echo "This folder is no git checkout: DVC works in one only, and models are known by their commit."; \
	printf '  got:      %s\n  expected: a commit that has dvc.yaml of this folder\n  next:     %s\n' "$$(echo "$$said" | head -n 1)" "$$next"; \
	exit 1

.venv/installed: requirements.lock pyproject.toml
	@$(MAKE) --no-print-directory checkout
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11, 4) <= sys.version_info[:3] < (3, 14))' || \
		{ echo "fusmae needs Python 3.11.4 to 3.13; $(PYTHON) is another: make PYTHON=python3.12 ..."; exit 1; }
	@echo "installing about 7 GB into .venv, once: some 6 minutes"
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --no-deps --no-build-isolation -e .
	@echo '$(NAME_DVC_STATE)' > "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/dvc_state.pth"
	@touch $@
