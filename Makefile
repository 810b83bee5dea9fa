# What a person types. `make help` lists it. Needs rustup, Python 3 (with venv), make and a C compiler.

PYTHON ?= python3
VENV := .venv
BIN := target/release
WASMILL := $(BIN)/wasmill
# Wasm guests are compiled by the same toolchain as the engine, in a workspace of their own.
GUEST_OUT := guests/target/wasm32-wasip2/release
DEMO_UDFS := guests/demo/udfs/distance.wasm guests/demo/udfs/delays.wasm

.DEFAULT_GOAL := help
.PHONY: help setup build build-tests python-runner guests demo install test test-rust test-python fuzz simulate soak large-state bench lint fmt clean

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: target/.setup ## Wasm targets and a private virtual environment

target/.setup: requirements.txt rust-toolchain.toml
	@mkdir -p target
	rustup target add wasm32-wasip2 wasm32-wasip1
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

build: target/.setup ## The engine and its command line, release
	cargo build --release -p wasmill-cli -p wasmill-embed

python-runner: build ## The component that runs .py files
	@$(VENV)/bin/python udf-sdk/python/build.py --embed $(BIN)/wasmill-embed

guests: target/.setup ## Every Rust guest, as components
	cargo build --release --target wasm32-wasip2 --manifest-path guests/Cargo.toml
	@mkdir -p guests/demo/udfs
	@for udf in distance delays; do \
	  cmp -s $(GUEST_OUT)/$$udf.wasm guests/demo/udfs/$$udf.wasm || cp $(GUEST_OUT)/$$udf.wasm guests/demo/udfs/$$udf.wasm; \
	done

demo: build python-runner guests ## Flights through Python and Rust UDFs: run it and show the result
	@$(WASMILL) run guests/demo/flights.yaml
	@$(WASMILL) show guests/demo/out/daily --rows 10

PREFIX ?= $(HOME)/.local
install: build python-runner ## The program and its Python runner into PREFIX (~/.local): bin and lib/wasmill
	install -D -m 755 $(WASMILL) $(DESTDIR)$(PREFIX)/bin/wasmill
	install -D -m 644 target/wasmill/python-runner.wasm $(DESTDIR)$(PREFIX)/lib/wasmill/python-runner.wasm

test: test-rust test-python ## Every test of every language

# Tests want other features of some dependencies than the program alone: everything is built in one go, so that nothing is built twice.
build-tests: target/.setup
	cargo build --release --workspace --all-targets
	@$(VENV)/bin/python udf-sdk/python/build.py --embed $(BIN)/wasmill-embed
	@$(MAKE) --no-print-directory guests

test-rust: build-tests
	cargo test --release --workspace
	cargo test --release --workspace --manifest-path guests/Cargo.toml

test-python: build-tests
	$(VENV)/bin/python -m pytest -q udf-sdk/python/tests guests

TARGET ?= frame
SECONDS ?= 60
FUZZ := tests/fuzz
# What is found goes on in a folder of its own; the corpus in the repository stays small.
FUZZ_FOUND := $(FUZZ)/target/found/$(TARGET)
FUZZ_WORDS := $(wildcard $(FUZZ)/dictionaries/$(TARGET).dict)
fuzz: ## Fuzzes TARGET=frame, effects, describe, job_file or snapshot for SECONDS=60 (needs cargo-fuzz and a nightly compiler)
	@command -v cargo-fuzz >/dev/null || { echo "there is no cargo-fuzz: cargo install cargo-fuzz"; exit 1; }
	@rustup toolchain list | grep -q ^nightly || { echo "there is no nightly compiler: rustup toolchain install nightly"; exit 1; }
	@test -f $(FUZZ)/fuzz_targets/$(TARGET).rs || { echo "there is no fuzz target \"$(TARGET)\": TARGET=frame, effects, describe, job_file or snapshot"; exit 1; }
	@mkdir -p $(FUZZ_FOUND)
	cargo +nightly fuzz run --fuzz-dir $(FUZZ) $(TARGET) $(FUZZ_FOUND) $(FUZZ)/corpus/$(TARGET) -- \
	  -max_total_time=$(SECONDS) -timeout=30 -rss_limit_mb=2048 $(FUZZ_WORDS:%=-dict=%)

SEEDS ?= 1000
FROM ?= 0
simulate: build-tests ## Random jobs with every kind of failure, under SEEDS=1000 seeds FROM=0 on, or under one SEED
	SEEDS=$(SEEDS) FROM=$(FROM) SEED=$(SEED) cargo test --release --workspace --test simulate -- --nocapture

soak: build-tests ## The program killed KILLS=1000 times on real files, and gone on with
	KILLS=$(or $(KILLS),1000) cargo test --release --workspace --test crash -- --nocapture

large-state: build-tests ## State of KEYS=50000000 keys on disk, in a process that may take LIMIT_MB=512
	KEYS=$(or $(KEYS),50000000) LIMIT_MB=$(or $(LIMIT_MB),512) STATE_MEMORY=$(or $(STATE_MEMORY),64MiB) \
	  cargo test --release --workspace --test large_state -- --nocapture

bench: build-tests ## Criterion, a table of ratios, and plots; QUICK=1: in under four minutes
	@# The build of `make test`, whole, so that nothing is compiled a second time with other features.
	cargo bench --workspace --bench throughput

lint: ## Formatting and clippy, warnings denied
	cargo fmt --all --check
	cargo fmt --all --check --manifest-path guests/Cargo.toml
	cargo clippy --release --workspace --all-targets -- -D warnings

fmt: ## Formats everything
	cargo fmt --all
	cargo fmt --all --manifest-path guests/Cargo.toml

clean: ## Everything that was built
	cargo clean
	cargo clean --manifest-path guests/Cargo.toml
	rm -rf $(VENV) guests/demo/udfs guests/demo/out
