# `make run` and `make test` set up everything they need. See README.md.

PYTHON ?= python3
REPO ?= .
QUERY ?= how are git ignore patterns matched
STATE ?= .state
WORKERS ?= 3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: run test lint types imports check clean

run: $(READY)  ## Index REPO (default: this checkout) and search it for QUERY.
	@echo "\$$ reposyncd sync $(REPO)"
	@$(BIN)/reposyncd --state-dir $(STATE) sync "$(REPO)"
	@echo "\n\$$ reposyncd search -n 3 $(QUERY)"
	@$(BIN)/reposyncd --state-dir $(STATE) search -n 3 "$(QUERY)"

# Test files run in parallel, and the tests of one file run in order. WORKERS=0 runs everything in one process.
test: $(READY) .packages .machine  ## Run every test.
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile $(PYTEST)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

imports: $(READY)
	$(BIN)/lint-imports

check: lint types imports test  ## Everything that CI checks.

# The virtual environment. It is created again when the dependencies change.
$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or later is required; $(PYTHON) is older or missing. Try: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || $(MAKE) --no-print-directory .apt PACKAGES=python3-venv
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@$(MAKE) --no-print-directory .systemd
	@touch $@

HAS_HEADERS := $(BIN)/python -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))'
CAN_COMPILE := command -v gcc >/dev/null && pkg-config --exists libsystemd 2>/dev/null && $(HAS_HEADERS)

# systemd-python is compiled against libsystemd. It is optional, and left out if it cannot be compiled.
.PHONY: .systemd
.systemd:
	@if $(CAN_COMPILE); then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		$(MAKE) --no-print-directory .apt PACKAGES="gcc pkg-config libsystemd-dev $$($(HAS_HEADERS) || echo python3-dev)"; \
	fi
	@if $(CAN_COMPILE); then \
		$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[systemd]'; \
	else \
		echo "systemd-python was not installed, so the service will not notify systemd. It needs gcc, pkg-config, libsystemd-dev and Python's headers (python3-dev)." >&2; \
	fi

# Programs that the tests run. They are installed if possible; otherwise, a message names them. Tests that mount file
# systems or inject errors need root: without root they are skipped, and their programs are not needed.
.PHONY: .packages .machine .apt
.packages:
	@missing=""; wanted="git:git"; \
	[ "$$(id -u)" != 0 ] || wanted="$$wanted strace:strace mkfs.ext4:e2fsprogs nsenter:util-linux"; \
	for program in $$wanted; do \
		command -v "$${program%%:*}" >/dev/null || missing="$$missing $${program##*:}"; \
	done; \
	[ -z "$$missing" ] || $(MAKE) --no-print-directory .apt PACKAGES="$$missing"

# The container in which the service is tested, created once: 900 MB in the cache directory. See tests/system/rootfs.sh.
.machine:
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then tests/system/rootfs.sh >/dev/null; fi

.apt:
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $(PACKAGES); \
	else \
		echo "Missing on this machine: $(PACKAGES). Install them with the package manager of your system, for example:" >&2; \
		echo "  sudo apt-get install $(PACKAGES)" >&2; exit 1; \
	fi

clean:  ## Delete what the other targets created.
	rm -rf $(VENV) $(STATE) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
