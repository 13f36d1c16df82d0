# Each target creates .venv if it is missing or out of date.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
# Number of test processes; the slow tests mostly wait for real peers.
JOBS ?= 4

# Some machines set it; then each of the thousand processes of the tests would compile its modules anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo differential test test-package test-oauth pages test-arm storm cluster hostile field fuzz fast check compiled bench bench-compare .bench .bench-compare deb image format docs translations clean

demo: $(VENV)/.installed
	$(BIN)/senderproxy demo $(ARGS)

# Four processes collect the tests: they find each test compiled. What cannot be collected, they report.
test: $(VENV)/.dev
	@$(MAKE) --no-print-directory --jobs=2 --output-sync check compiled
	$(BIN)/python tests/peers/packages.py
	$(BIN)/python -m pytest --all-peers -n $(JOBS) --dist loadgroup --no-loadscope-reorder $(ARGS)

# pytest leaves out a file of a folder that is named, too, unless its name starts with test_.
LONGER := tests/package/ansible.py tests/package/longer.py tests/package/rebuild.py tests/package/versions.py
# The Debian package alone, also on Ubuntu 24.04, from Debian 12 to 13, and back to an older version. As root; the first run makes the releases.
test-package: $(VENV)/.dev
	$(BIN)/python tests/peers/packages.py
	DPKG_DEB_COMPRESSOR_LEVEL=6 $(BIN)/python -m pytest tests/package/test_*.py $(LONGER) --durations=0 $(ARGS)

# Of the tests, the logins with OAuth: a real authorization server (Node, fetched by npm), and servers that ask it about tokens.
test-oauth: $(VENV)/.dev
	$(BIN)/python tests/peers/packages.py
	$(BIN)/python -m pytest tests/journeys/test_oauth.py -n $(JOBS) $(ARGS)

# The page in Chromium: all pages at two widths, both languages and themes, by keyboard, without scripts, with axe-core (fetched
# by npm). Pictures for a person go to dist/pages.
pages: $(VENV)/.dev
	$(BIN)/python tests/peers/packages.py
	$(BIN)/python -m pytest tests/journeys/pages.py $(ARGS)

# The package for arm64, emulated by qemu: the program sends mail; systemd and apt are not tested.
test-arm: $(VENV)/.dev
	$(BIN)/python tests/peers/packages.py
	$(BIN)/python -m pytest tests/package/arm64.py $(ARGS)

# Three instances over one database: each, and the database, is killed again and again, also with clocks that are an hour off; a
# standby is promoted, one instance after the other is upgraded, and (as root) networks are cut. About twenty minutes.
cluster: $(VENV)/.dev
	$(BIN)/python tests/peers/packages.py nftables
	$(BIN)/python -m tests.crash.cluster $(or $(KILLS),20) $(SEED)

# Kill the service a hundred times under load, with a provider that fails at random, with the straight path and without it;
# print doubled messages and their cause.
# Then let single calls of the disk, of sockets, files and threads fail, and cut the power at each moment of a spool's day.
storm: $(VENV)/.dev
	$(BIN)/python -m tests.crash.storm $(or $(KILLS),100) $(SEED)
	POINTS=200 MOMENTS=1000000 $(BIN)/python -m pytest tests/hostile/test_one_failure.py tests/crash/test_power_cut.py

# All hostile clients, providers, disks and name servers at once, beside ten polite clients; each of them alone is in
# `make test`. It needs a machine that does nothing else.
hostile: $(VENV)/.dev
	$(BIN)/python -m pytest -s tests/hostile/all_together.py $(ARGS)

# All cases of the comparison between the straight path and the general one; `make test` has the first of them.
differential: $(VENV)/.dev
	DIFFERENTIAL_CASES=$(or $(CASES),3000) $(BIN)/python -m pytest tests/senderproxy/straight/test_differential.py -n $(JOBS) $(ARGS)

# Inputs of real providers, servers, devices and tools: PASS or FAIL for each case. ARGS: directory, names, --jobs N.
field: $(VENV)/.dev
	$(BIN)/python -m tests.field $(ARGS)

# A day of an office with 200 accounts in so many minutes; fails if a message is unaccounted for or if memory, descriptors,
# tasks or disk grow, or do not return when idle. MINUTES=10, SEED: any number.
soak: $(VENV)/.dev
	$(BIN)/python -m tests.soak.day $(or $(MINUTES),10) $(SEED)

# Random inputs for all parsers: so many examples for each test. Found failures are tried first in the next run. Then hostile
# inputs of full length, for the time that they take.
fuzz: $(VENV)/.dev
	FUZZ_EXAMPLES=$(or $(EXAMPLES),5000) $(BIN)/python -m pytest tests/fuzz -n $(JOBS) $(ARGS)
	LONG_INPUTS=1 $(BIN)/python -m pytest tests/senderproxy/test_linear_time.py $(ARGS)

fast: $(VENV)/.dev
	$(BIN)/python -m pytest -m "not slow" $(ARGS)

compiled: $(VENV)/.dev
	@$(BIN)/python -m pytest --collect-only -qq > /dev/null 2>&1 || true

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The figures depend on the interpreter, so the benchmark has an environment of its own with this one: Debian's, if it is here.
BENCH_PYTHON ?= $(firstword $(wildcard /usr/bin/python3) $(PYTHON))
BENCH := $(MAKE) --no-print-directory VENV=.cache/bench/venv PYTHON=$(BENCH_PYTHON)

bench:
	@$(BENCH) .bench

bench-compare:
	@$(BENCH) .bench-compare

.bench: $(VENV)/.bench
	$(BIN)/python -m benchmarks.packages
	$(BIN)/python -m benchmarks $(ARGS)

# CPU time of a message before and after: the commit BASE and the working tree, in turn.
.bench-compare: $(VENV)/.bench
	$(BIN)/python -m benchmarks.compare $(BASE) $(ARGS)

# The Debian packages of all architectures, in dist/: ARGS="--architecture amd64" for one, --version for another version.
deb: $(VENV)/.dev
	$(BIN)/python -m deploy.debian $(ARGS)

# The container image of this machine's architecture, in dist/: an archive for podman load or docker load. Needs root.
# ARGS="--base FOLDER" for another Debian 12 than the one of debootstrap, "--package FILE" for a package made before.
image: $(VENV)/.dev
	$(BIN)/python -m deploy.container $(ARGS)

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.dev
	$(BIN)/python -m docs.generate_config > docs/config.md
	$(BIN)/python -m docs.translate_config
	$(BIN)/python -m docs.generate_log_events > docs/log-events.md
	$(BIN)/python -m docs.generate_metrics > docs/metrics.md

# Collect the marked texts of the program in the catalogues of senderproxy/locale, and compile them.
translations: $(VENV)/.dev
	$(BIN)/python -m docs.update_translations

# pip is the last that venv makes: an environment without it was not finished, and is made anew.
$(VENV)/bin/pip:
	@$(PYTHON) -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	    echo 'Python 3.11 or later with its module venv is needed. Type: sudo apt install python3-venv'; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/pip
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/bin/pip
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $(VENV)/.installed $@

$(VENV)/.bench: pyproject.toml constraints.txt | $(VENV)/bin/pip
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[bench]'
	@touch $(VENV)/.installed $(VENV)/.dev $@

clean:
	rm -rf $(VENV) .cache dist
