# Every target sets up what it needs first (scripts/setup, quick when nothing is missing); `make help` lists them.
PYTHON := .venv/bin/python
PYTEST := $(PYTHON) -m pytest -q --import-mode=importlib --timeout=300
JOBS   ?= $(shell nproc)
ARGS   ?=

.DEFAULT_GOAL := help
.PHONY: help demo build test test-native test-python test-conformance bench leak-rates conformance check format clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-17s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo '  ARGS="..." is passed on by demo, bench, leak-rates and conformance, as in: make demo ARGS="--clients 5000"'

demo: ## Load a threaded server plain and under `weft run`; prints a table, writes demo.png
	@scripts/setup --no-tests
	@$(PYTHON) scripts/demo $(ARGS)

build: ## Install what is missing, build build/cli/weft and the C++ library, put the Python package into .venv
	@scripts/setup --no-tests

test: ## Build, then run the unit, Python and command-line tests and a part of the conformance tests
	@scripts/setup
	@$(MAKE) --no-print-directory test-native test-python test-conformance

test-native:
	ctest --test-dir build --output-on-failure --no-tests=error --parallel $(JOBS)

# A pytest for each part, JOBS of them at a time, the longest first. Not by pytest-xdist: the package's tests run inside
# pytest, where xdist has a thread and a pipe of its own, and in its workers leak tests look for less. They look at
# what is left in TMPDIR, so each part has one of its own.
PYTHON_PARTS := package programs peers
test-python-package:  TESTS := tests/python/package
test-python-programs: TESTS := tests/python --ignore=tests/python/package $(wildcard tests/cli)
test-python-peers:    TESTS := tests/conformance/drivers tests/conformance/peers

test-python:
	@echo "test-python: $(PYTHON_PARTS), $(JOBS) at a time; the output of each comes when it is done"
	@$(MAKE) --no-print-directory --keep-going --output-sync=target --jobs=$(JOBS) $(PYTHON_PARTS:%=test-python-%)

.PHONY: $(PYTHON_PARTS:%=test-python-%)
$(PYTHON_PARTS:%=test-python-%):
	@echo "== $@"
	@TMPDIR=$$(mktemp -d) && export TMPDIR && trap 'rm -rf "$$TMPDIR"' EXIT INT TERM && $(PYTEST) $(TESTS)

test-conformance:
	$(PYTHON) tests/conformance/run.py --python /usr/bin/python3 --suite test_thread --suite test_queue

bench: ## Run the benchmarks
	@scripts/setup --no-tests
	@cmake --build build
	@scripts/bench $(ARGS)

leak-rates: ## Measure how often leak tests are wrong, beside psleak's: 6,000 verdicts of each
	@scripts/setup --no-tests
	@$(PYTHON) scripts/leak-rates $(ARGS)

conformance: ## Run CPython's own test suites plain and under `weft run`, on every CPython found
	@scripts/setup
	@$(PYTHON) tests/conformance/run.py --jobs $(JOBS) $(ARGS)

check: ## The quick static checks: formatting, headers, documentation, shell scripts
	@.ci/run format headers docs shellcheck

format: ## Format the C++ sources
	@scripts/setup --ci --no-tests --no-build
	git ls-files '*.cpp' '*.hpp' | xargs --no-run-if-empty clang-format-14 -i

clean: ## Remove everything built, but not .venv
	rm -rf build build-asan build-tsan build-fuzz demo.png
