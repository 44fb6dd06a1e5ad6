# `make help` lists the targets. Each makes the environment it needs under
# build/ and runs against the wheel built from this tree (ci/bootstrap.sh);
# nothing needs to be installed or activated first.

.DEFAULT_GOAL := help

BOOTSTRAP := ci/bootstrap.sh
TOOLS     := $(BOOTSTRAP) --env tools --requirements ci/tools.txt --no-package

# Of the variables given on the command line these reach the commands:
# ARGS    more arguments for the target's command, ARGS='-x -k isolation'
# MARK    a pytest marker expression, MARK=mission_critical
# PYTHON  the interpreter to make the environment with
# CC      the compiler
# SERVE   SERVE=1: `make demo` stays up and prints its URL
ARGS ?=
MARK ?= not soak

##@ Use

demo: ## agent events to real clients of a real server; SERVE=1 keeps it up
	@$(BOOTSTRAP) --env demo --extras demo -- python -m wsmanager.demo $(ARGS)

wheel: ## the sdist and the wheel, checked, in dist/
	@$(TOOLS) -- "$(CURDIR)/ci/dist.sh" "$(CURDIR)/dist"

##@ Check

test: ## the test suite, against the installed wheel
	@$(BOOTSTRAP) --env test --extras test -- "$(CURDIR)/ci/pytest.sh" -m "$(MARK)" $(ARGS)

lint: ## ruff, clang-format, gcc and clang with every warning an error, shellcheck
	@$(TOOLS) -- "$(CURDIR)/ci/lint.sh" $(ARGS)

types: ## mypy --strict, pyright, and the stub of the core against the core
	@$(BOOTSTRAP) --env types --extras test --requirements ci/tools.txt -- "$(CURDIR)/ci/types.sh"

sanitize: ## the suite under AddressSanitizer and UBSan, then leaks of our own
	@ci/sanitize.sh $(ARGS)

free-threaded: ## the tests of threads on a CPython without the GIL; PYTHON=...
	@ci/free_threaded.sh $(ARGS)

tsan: ## ThreadSanitizer; PYTHON=... built with it; ARGS=660 for the long form
	@ci/tsan.sh $(ARGS)

valgrind: ## memcheck over every call of the core, and its controls
	@ci/valgrind.sh $(ARGS)

fuzz: ## libFuzzer with ASan and UBSan over the parsers in C; ARGS=RUNS each
	@ci/fuzz.sh $(ARGS)

soak: ## the long forms of the promises, an hour or more; tabulated
	@ci/soak.sh $(ARGS)

matrix: ## build and test with every CPython >= 3.10 found on this machine
	@ci/matrix.sh $(ARGS)

oldest: ## the tests that meet other libraries, with the oldest versions allowed
	@ci/oldest.sh $(ARGS)

coverage: ## line coverage of the Python and the C code by the suite
	@ci/coverage.sh $(ARGS)

ci: ## all that continuous integration runs
	@.ci/run

##@ Measure

# They run from a copy, so that the tree's own wsmanager/ is not what is measured.
BENCH := $(BOOTSTRAP) --env bench --extras bench -- sh -c 'rm -rf benchmarks && \
	cp -R "$$WSMANAGER_TREE/benchmarks" . && exec python -m benchmarks "$$@"' bench

bench: ## the benchmarks, one table; ARGS='--json /tmp/figures.json' keeps them
	@$(BENCH) $(ARGS)

figures: ## the same, into docs/images: the plots and the figures of the README
	@$(BENCH) --json "$(CURDIR)/docs/images/figures.json" --plots "$(CURDIR)/docs/images" $(ARGS)

pictures: ## the demo's pages in a browser, as pictures in docs/images; needs Chromium
	@WSMANAGER_SCREENSHOTS="$(CURDIR)/docs/images" $(BOOTSTRAP) --env test --extras test -- \
		"$(CURDIR)/ci/pytest.sh" -q tests/test_demo.py $(ARGS)

sizing: ## what a connection and the journal take of memory
	@$(BOOTSTRAP) --env bench --extras bench -- sh -c 'rm -rf benchmarks && \
		cp -R "$$WSMANAGER_TREE/benchmarks" . && exec python -m benchmarks.sizing'

##@ Write

docs: ## the pages, in build/docs/html; every warning is an error
	@$(BOOTSTRAP) --env docs --extras all --requirements ci/docs.txt -- "$(CURDIR)/ci/docs.sh" $(ARGS)

format: ## put Python and C into the house layout
	@$(TOOLS) -- "$(CURDIR)/ci/lint.sh" --fix

##@ Tidy

clean: ## remove all that was made, environments included
	rm -rf build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	rm -f wsmanager/*.so
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

help: ## this list
	@awk 'BEGIN { FS = ":.*## " } \
		/^##@ / { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo

.PHONY: bench ci clean coverage demo docs figures format free-threaded fuzz help lint matrix \
	oldest pictures sanitize sizing soak test tsan types valgrind wheel
