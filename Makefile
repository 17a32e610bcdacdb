# Everything a person or CI needs: `make run` serves from ./data, `make test` checks everything. Both install what is missing.
# One build (release, the whole workspace) serves run, test and bench; its directory lies outside the checkout.

CACHE_DIR := $(abspath $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/kalamdb)
CARGO_TARGET_DIR ?= $(CACHE_DIR)/target
override CARGO_TARGET_DIR := $(abspath $(CARGO_TARGET_DIR))
export CARGO_TARGET_DIR

BINARY := $(CARGO_TARGET_DIR)/release/kalamdb
PYTHON := $(CACHE_DIR)/venv/bin/python

# `scripts/setup` writes the variables that the build needs on this machine.
READY_TO_BUILD := ./scripts/setup "$(CACHE_DIR)" build && . "$(CACHE_DIR)/environment"
READY_FOR_ALL := ./scripts/setup "$(CACHE_DIR)" build lint python && . "$(CACHE_DIR)/environment"

.DEFAULT_GOAL := help
.PHONY: help run build setup test bench lint fmt clean binary-path python-path

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1|\2/p' Makefile | awk -F'|' '{ printf "%-18s %s\n", $$1, $$2 }'

run: build ## Build, and serve from ./data; ARGS has more options of `kalamdb serve`
	@exec "$(BINARY)" serve $(ARGS)

build: ## Build the binary
	@$(READY_TO_BUILD) && cargo build --release --workspace --bins

setup: ## Install what building and testing need, and nothing else
	@$(READY_FOR_ALL)

# The order is that of the cheapest answer first; each line stops the run when it fails. Binaries and tests are built in one go:
# one after the other, each would end with a core idle.
test: ## Run every check and test
	@$(READY_FOR_ALL) && set -x \
	&& cargo fmt --all --check \
	&& cargo build --release --workspace --bins --tests \
	&& cargo clippy --release --workspace --all-targets -- -D warnings \
	&& RUSTDOCFLAGS="-D warnings" cargo doc --release --workspace --no-deps \
	&& cargo test --release --workspace --no-fail-fast \
	&& "$(PYTHON)" scripts/mistakes \
	&& "$(PYTHON)" -m pytest clients/python

bench: ## Measure fetch and ingest beside a no-op Flight server (W=S1: memory with many rows, W=NEIGHBOURS: beside a user at a quota, W=criterion: the store); ARGS has options
	@$(READY_FOR_ALL) && $(if $(filter criterion,$(W)),exec cargo bench --workspace --bench store -- $(ARGS),\
	cargo build --release --workspace --bins && exec "$(PYTHON)" bench/run.py $(ARGS))

lint: ## Check formatting and lints
	@$(READY_FOR_ALL) && cargo fmt --all --check && cargo clippy --release --workspace --all-targets -- -D warnings

fmt: ## Format the code
	@cargo fmt --all

clean: ## Remove what was built; data and the Python environment stay
	@cargo clean

binary-path: ## Print where the binary is
	@echo "$(BINARY)"

python-path: ## Print where the Python with the clients' packages is
	@echo "$(PYTHON)"
