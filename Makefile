# Names for people and CI; what they do is in build.sh and the scripts they call. `make help` lists them.
#
# PYTHON chooses the Python, for example `make test PYTHON=python3.12`.

PYTHON ?= python3
export PYTHON

# The test environment (pytest, torch...) is made on first use, outside the repository, and reused.
env = $$(python/tests/environment.sh)

.PHONY: build
build: ## Build libnetmon.so and header into build/, and the library for the Python package
	./build.sh

.PHONY: demo
demo: ## The main job: a training of two ranks, watched, its bytes accounted for
	examples/demo/run.sh

.PHONY: test
test: test-go test-c test-python ## All tests but the long campaigns

.PHONY: test-go
test-go: build ## Go tests, with the race detector, and a short run of every fuzz target
	go vet ./...
	go test -race ./...
	go test -race -tags probing ./core/probe/icmp
	$(MAKE) fuzz FUZZTIME=2s

.PHONY: test-c
test-c: build ## The C ABI: symbols, bad arguments, forks, signals, sanitizers, C and C++ examples
	$(env)/bin/python -m pytest python/tests/test_abi.py

.PHONY: test-python
test-python: build ## The Python package, the drop-in, packaging, and the truth about a link
	$(env)/bin/python -m pytest python/tests --ignore python/tests/test_abi.py

.PHONY: test-long
test-long: build ## Long forms of the tests: 60 s of flatness, thousands of forks
	NETMON_LONG=1 $(env)/bin/python -m pytest python/tests

FUZZTIME ?= 60s
.PHONY: fuzz
fuzz: ## Run every fuzz target for FUZZTIME
	@for package in $$(go list ./core/...); do \
	  for target in $$(go test -list '^Fuzz' $$package | grep '^Fuzz'); do \
	    go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $$package || exit 1; \
	  done; \
	done

.PHONY: bench
bench: build ## Measure the cost of everything and renew docs/overhead.md
	$(env)/bin/python python/bench/run.py

.PHONY: lint
lint: build ## Formatters in check mode, vet, staticcheck, compilers' warnings, shellcheck, ruff, mypy
	test -z "$$(gofmt -l .)"
	go vet ./...
	GOOS=darwin go vet ./core/...
	GOOS=windows go vet ./core/...
	go tool -modfile=tools.mod staticcheck ./...
	clang-format --dry-run --Werror capi/*.c capi/*.h include/*.h bindings/cpp/*.hpp bindings/examples/c/*.c bindings/examples/cpp/*.cpp
	shellcheck build.sh .ci/run python/tests/environment.sh examples/demo/run.sh
	$(env)/bin/ruff format --check python examples
	$(env)/bin/ruff check python examples
	$(env)/bin/mypy

.PHONY: fmt
fmt: ## Format everything
	gofmt -w capi core
	clang-format -i capi/*.c capi/*.h include/*.h bindings/cpp/*.hpp bindings/examples/c/*.c bindings/examples/cpp/*.cpp
	$(env)/bin/ruff format python examples
	$(env)/bin/ruff check --fix python examples

.PHONY: wheel
wheel: ## Build the wheel into dist/
	$(env)/bin/python -m build --wheel --no-isolation --outdir dist

.PHONY: clean
clean: ## Remove what was built; the test environment stays
	rm -rf build dist python/netmon/_native

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
