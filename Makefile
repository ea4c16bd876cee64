# The verbs. Each is what a person could type; `python -m lab env` prints what a shell needs to type it.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
PYTHON := .venv/bin/python
STACK ?= dev
APT_INSTALL := apt-get -o DPkg::Lock::Timeout=300 install -y --no-install-recommends
# In two steps: what follows must not run, on a backend of the user's own, where there is no environment.
ON_LAB = env="$$($(PYTHON) -m lab env)" && eval "$$env" &&

.PHONY: help
help: ## Show the verbs
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: system
system: # refuses, before anything is touched, where the embedded environment cannot run
	@python3 lab/toolchain/system.py

.venv/stamp: requirements.txt requirements-dev.txt requirements-docs.txt policy/requirements.txt
	@python3 -c 'import ensurepip' 2>/dev/null || $(APT_INSTALL) python3-venv || \
		{ apt-get update && $(APT_INSTALL) python3-venv; }
	python3 -m venv .venv
	.venv/bin/pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

.PHONY: tools
tools: system .venv/stamp ## Install and build what the embedded environment is made of
	@$(PYTHON) -m lab tools build

.PHONY: dev
dev: tools ## Two VMs join a real mesh on this machine: starts the environment, runs `pulumi up` on stack dev
	@$(PYTHON) -m lab up
	@$(ON_LAB) pulumi stack select --create $(STACK) && pulumi up --yes --skip-preview --suppress-outputs && \
		python -m hybridmesh status --stack $(STACK) && python -m lab traffic

.PHONY: preview
preview: ## Show what `pulumi up` would change
	@$(ON_LAB) python -m hybridmesh preview --stack $(STACK)

.PHONY: destroy
destroy: ## Remove the stack from cluster and VMs
	@$(ON_LAB) pulumi destroy --stack $(STACK) --yes --skip-preview

.PHONY: down
down: ## End the embedded environment and leave nothing of it
	@$(PYTHON) -m lab down

.PHONY: check
check: .venv/stamp ## Lint and types: ruff, mypy strict, shellcheck
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	shellcheck $$(git ls-files '*.sh')

.PHONY: docs
docs: .venv/stamp ## The documentation as a site, in build/site; fails where a link leads nowhere
	NO_MKDOCS_2_WARNING=1 $(PYTHON) -m mkdocs build

.PHONY: test-unit
test-unit: .venv/stamp ## Tests that need Python packages only (two to four minutes)
	$(PYTHON) -m pytest -m 'not lab'

.PHONY: test
test: tools check test-unit ## Everything but what takes long, on an embedded environment of its own
	$(PYTHON) -m pytest -m 'lab and not full'

.PHONY: test-full
test-full: tools check test-unit ## Everything: each feature on the environment, ten thousand random configurations
	HYBRID_MESH_FUZZ=10000 $(PYTHON) -m pytest tests/settings/test_fuzz.py tests/istio/test_fuzz.py tests/remote/test_fuzz.py --timeout 3600
	HYBRID_MESH_FUZZ=1000 $(PYTHON) -m pytest -m lab

.PHONY: bench
bench: tools ## Measure beside an Ansible playbook and the bare floor; writes docs/benchmarks.md (an hour, on a quiet machine)
	@sed 's/#.*//' bench/debian-packages.txt | xargs dpkg-query --show >/dev/null 2>&1 || \
		{ apt-get update && sed 's/#.*//' bench/debian-packages.txt | xargs apt-get install -y --no-install-recommends; }
	@for point in preview environment one join unchanged many; do $(PYTHON) -m bench $$point; done
