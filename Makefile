# A thin front of CMake, ctest and a few scripts; all the knowledge is in them. Run `make help` for the list.
.DEFAULT_GOAL := build
.PHONY: help deps build demo test cov bench bench-lossy bench-memory bench-short bench-timewait cost mutants fuzz sim soak lint format install

PRESET ?= release
DESTDIR ?=
LINTS = $(filter-out %/lintlib.py,$(wildcard tests/lint/*.py))

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1	/p' $(MAKEFILE_LIST) | expand -t 20

deps: ## install the Debian packages that are missing (packaging/debian-packages.txt)
	@packaging/install-deps

build: deps ## configure and build build/$(PRESET); PRESET=release|debug|asan|tsan|fuzz|cov
	cmake --preset $(PRESET)
	cmake --build --preset $(PRESET)

demo: build ## real programs against the kernel, side by side, and every service killed under load (root)
	@python3 -B tests/demo/demo.py --build build/$(PRESET)

test: deps ## build and test asan, release and tsan; ends with "N passed, N failed"
	@tests/run

cov: deps ## line coverage by room (preset cov); build/cov/coverage.txt has every file
	@tests/cov

bench: build ## figures beside the kernel's; writes docs/bench/REPORT.md (root, some minutes, a quiet machine)
	@python3 -B tests/bench/bench.py --build build/$(PRESET)

bench-lossy: build ## the same beside the kernel over a path that loses and delays; docs/bench/LOSSY.md (root, 20 minutes, a quiet machine)
	@python3 -B tests/bench/lossy.py --build build/$(PRESET)

bench-memory: build ## what an idle connection costs, 100 000 of them open at once; writes docs/bench/MEMORY.md (root, 5 minutes)
	@python3 -B tests/bench/memory.py --build build/$(PRESET)

bench-short: build ## short connections for ten minutes, which may leave no growth; writes its part of docs/bench/MEMORY.md (root)
	@python3 -B tests/bench/short.py --build build/$(PRESET) --out docs/bench

bench-timewait: build ## 600 000 TIME_WAITs made by programs; writes its part of docs/bench/MEMORY.md (root, 3 minutes)
	@python3 -B tests/bench/timewait.py --build build/$(PRESET) --out docs/bench

cost: build ## instructions per segment by callgrind, 1 to a million connections; writes docs/bench/COST.md (5 minutes)
	@python3 -B tests/bench/cost.py --build build/$(PRESET)

mutants: deps ## each operator and constant of services/engine/tcp changed in turn: do the tests notice? docs/MUTANTS.md
	@nice -n 19 python3 -B tests/mutants/mutants.py $(MUTANTS)

FUZZ_SECONDS ?= 3600
fuzz: deps ## live fuzzing of TCP, options, IP, fragments, UDP and parsers for FUZZ_SECONDS; see docs/FUZZ.md
	@tests/fuzz/run $(FUZZ_SECONDS)

sim: build ## the simulations' long forms: 19656 transfers over a grid of paths, two dozen seeds per model; docs/SIM.md (5 minutes)
	@for long in "table full" "goodput full" "random 20000"; do build/$(PRESET)/tests/sim/sim_tcp_$$long || exit 1; done

soak: build ## short connections for ten minutes, which may leave no growth; nginx reloaded under load, docs/bench/RELOAD.md; half an hour (root)
	@python3 -B tests/bench/short.py --build build/$(PRESET)
	@python3 -B tests/bench/reload.py --build build/$(PRESET)

lint: deps ## the house rules only
	@status=0; for lint in $(LINTS); do python3 -B $$lint || status=1; done; exit $$status

format: deps ## clang-format over all tracked C files
	git ls-files -z '*.c' '*.h' | xargs -0 clang-format -i

install: build ## install build/$(PRESET), below DESTDIR if given
	DESTDIR=$(DESTDIR) cmake --install build/$(PRESET)
