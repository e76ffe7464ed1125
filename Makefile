# What people type. Each target installs what it needs first, and that costs nothing when it is there.
SHELL := /bin/bash
DATA ?= /var/lib/aquifer
export PATH := $(PATH):$(HOME)/.cargo/bin
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
TESTBED = cargo run -q -p testbed --bin testbed --features runner -- exec

.DEFAULT_GOAL := help
.PHONY: help up build doctor deny test test-install check bench bench-install fuzz conformance stop

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

up: build ## Install what is missing, build, start the whole cloud (DATA=/var/lib/aquifer)
	$(SUDO) target/release/aquifer up --data-dir "$(DATA)" $(ARGS)

build: ## Install what is missing and build the release binary
	@scripts/install
	cargo build --release -p aquifer

doctor: build ## Check this machine before anything is started
	$(SUDO) target/release/aquifer doctor --data-dir "$(DATA)"

stop: ## Stop the cloud in DATA
	$(SUDO) target/release/aquifer stop --data-dir "$(DATA)"

check: ## Formatting and lints
	cargo fmt --all --check
	cargo clippy -q --workspace --all-targets --features testbed/runner -- -D warnings

test-install:
	@scripts/install tests

test: test-install check ## Install what the tests need, run every test on a real Ceph and on both databases
	cargo build -q -p aquifer
	set -o pipefail; \
	AQUIFER_TEST_BIN="$(CURDIR)/.clients/bin" $(TESTBED) cargo test --workspace --no-fail-fast 2>&1 | scripts/failures

deny: ## Licences and advisories of everything that is linked (installs cargo-deny)
	command -v cargo-deny >/dev/null || cargo install --locked cargo-deny
	cargo deny check

bench-install:
	@scripts/install bench

bench: build test-install bench-install ## Measure, side by side (ARGS='--only identity,users')
	cargo run -q --release -p bench $(ARGS)

fuzz: ## Feed the parsers of what strangers send with noise (SECONDS=60 each, TARGETS=all; needs a nightly toolchain)
	scripts/fuzz $(or $(SECONDS),60) $(TARGETS)

conformance: test-install ## Run tempest (TESTS=regex) against the cloud in DATA
	scripts/conformance "$(DATA)" $(TESTS)
