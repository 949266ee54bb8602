# Names for people and CI; what they do is in build.sh and the scripts they call. `make help` lists them.
#
# PYTHON chooses the Python, for example `make test PYTHON=python3.12`.

PYTHON ?= python3
export PYTHON

# The test environment (pytest, torch...) is made on first use, outside the repository, and reused.
env = environment=$$(python/tests/environment.sh) && "$$environment"/bin

# What the formatters and linters look at.
c_files = capi/*.c capi/*.h capi/testdata/host/*.c capi/testdata/host/*.h capi/testdata/host/*.cpp capi/testdata/nvml/*.c include/*.h \
  bindings/cpp/*.hpp bindings/examples/*/*.c bindings/examples/*/*.cpp python/bench/*.c python/tests/lab/*.c
go_folders = capi core python/bench
shell_files = build.sh python/tests/environment.sh python/tests/integrations/environment.sh $(wildcard .ci/run examples/*/*.sh)
python_files = python $(wildcard examples)

.PHONY: build
build: ## Build libnetmon.so and header into build/, and the library for the Python package
	./build.sh

.PHONY: demo
demo: ## The main job: a training of two ranks, watched, its bytes accounted for
	examples/demo/run.sh

.PHONY: test
test: test-go test-c test-python ## All tests but the long campaigns

# Tests of time fail now and then on a machine that is busy with something else. Where RERUN is set, as in CI, what failed is run once
# more, and only that: Go keeps the results of packages that passed, and pytest the names of tests that failed.
RERUN ?=
again = || { test -n "$(RERUN)" && printf '\n%s\n\n' 'RERUN: what failed is run once more' && $(1); }

.PHONY: test-go
test-go: ## Go tests of core, with the race detector, and a short run of every fuzz target
	go vet ./...
	go test -race ./core/... $(call again,go test -race ./core/...)
	go test -race -tags probing ./core/probe/icmp
	$(MAKE) fuzz FUZZTIME=20000x

.PHONY: test-c
test-c: ## The C ABI: symbols, bad arguments, forks, signals, sanitizers, C and C++ examples
	go test -timeout 30m ./capi $(call again,go test -timeout 30m ./capi)

.PHONY: test-python
test-python: build ## The Python package, the drop-in, packaging, and the truth about a link
	$(env)/python -m pytest python/tests $(call again,$(env)/python -m pytest --last-failed python/tests)

.PHONY: test-integrations
test-integrations: build ## Real trainings with netmon attached, on processors: OpenRLHF by torchrun and on Ray; 7 GB once
	environment=$$(python/tests/integrations/environment.sh) && \
	  "$$environment"/bin/python -m pytest python/tests/integrations $(call again,"$$environment"/bin/python -m pytest --last-failed python/tests/integrations)

.PHONY: test-long
test-long: build ## Long forms of the tests: 60 s of flatness, thousands of forks, an install without Go
	NETMON_LONG=1 go test -timeout 3h ./capi
	export NETMON_LONG=1 && $(env)/python -m pytest python/tests

# A number of inputs, not a time: at the end of a time, go test now and then calls its own deadline a failure of the target.
FUZZTIME ?= 1000000x
.PHONY: fuzz
fuzz: ## Run every fuzz target on FUZZTIME inputs
	@for package in $$(go list ./core/...); do \
	  for target in $$(go test -list '^Fuzz' $$package | grep '^Fuzz'); do \
	    go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $$package || exit 1; \
	  done; \
	done

.PHONY: bench
bench: build ## Measure the cost of everything and renew docs/overhead.md
	export PYTHONPATH=$(CURDIR)/python && $(env)/python -m bench

.PHONY: scale
scale: build ## Measure what the view of a job of 256 and 1,024 simulated ranks costs
	export PYTHONPATH=$(CURDIR)/python && $(env)/python -m bench.scale

.PHONY: bench-truth
bench-truth: build ## Measure in the lab how true round trips and loss are, and renew docs/accuracy.md
	export PYTHONPATH=$(CURDIR)/python && $(env)/python -m bench.truth

.PHONY: campaign
campaign: build ## Put faults into a job in the lab, score what is found, and renew docs/findings.md; half an hour
	export PYTHONPATH=$(CURDIR)/python && $(env)/python -m bench.campaign --json build/campaign.jsonl --report docs/findings.md

.PHONY: slow-link
slow-link: build ## Show what netmon says of a slow link and its like, and renew docs/slow-link.md; eleven minutes
	export PYTHONPATH=$(CURDIR)/python && $(env)/python -m bench.slow_link

.PHONY: bench-ddp
bench-ddp: build ## Measure what netmon adds to a step of DDP, and renew it in docs/collectives.md
	export PYTHONPATH=$(CURDIR)/python && $(env)/python -m bench.ddp

.PHONY: bench-openrlhf
bench-openrlhf: build ## Measure what netmon adds to a PPO job of OpenRLHF, and renew it in docs/openrlhf.md
	export PYTHONPATH=$(CURDIR)/python && environment=$$(python/tests/integrations/environment.sh) && \
	  "$$environment"/bin/python -m bench.openrlhf

.PHONY: lint
lint: ## Formatters in check mode, vet, staticcheck, shellcheck, ruff, mypy
	test -z "$$(gofmt -l $(go_folders))"
	go vet ./...
	GOOS=darwin go vet ./core/...
	GOOS=windows go vet ./core/...
	go tool -modfile=tools.mod staticcheck ./...
	clang-format --dry-run --Werror $(c_files)
	shellcheck $(shell_files)
	$(env)/ruff format --check $(python_files)
	$(env)/ruff check $(python_files)
	$(env)/mypy

.PHONY: fmt
fmt: ## Format everything
	gofmt -w $(go_folders)
	clang-format -i $(c_files)
	$(env)/ruff format $(python_files)
	$(env)/ruff check --fix $(python_files)

.PHONY: wheel
wheel: ## Build the wheel into dist/
	$(PYTHON) -m venv build/wheel
	build/wheel/bin/python -m pip wheel --no-deps --wheel-dir dist .

.PHONY: clean
clean: ## Remove what was built; the test environment stays
	rm -rf build dist python/netmon/_native

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
