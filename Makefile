# `make` alone lists the targets.
.DEFAULT_GOAL := help
.PHONY: help run test soak fmt lint docs openapi

help: ## List the targets
	@awk -F ': *## ' '/^[a-z]+: *## / {printf "%-10s%s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

run: ## Serve on 127.0.0.1:8080 with the embedded store
	env -u REDIS_URL cargo run --release --locked

test: ## Install what the tests start, where it is missing, and run them
	tests/install
	cargo test --locked

soak: ## Break three instances at random for five minutes, or PRESENCE_SOAK=1h, and check what was seen
	PRESENCE_SOAK=$${PRESENCE_SOAK:-5m} cargo test --locked --test it soak -- --nocapture

fmt: ## Format the code
	cargo fmt

lint: ## Check the format and the lints
	cargo fmt --check
	cargo clippy --all-targets --locked -- -D warnings

docs: ## Build the documentation of the code, private items too; a warning fails
	RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" cargo doc --no-deps --locked --document-private-items

openapi: ## Renew openapi/openapi.json from the code
	@mkdir -p openapi
	cargo run --locked --quiet -- --print-openapi > openapi/openapi.json.new \
		|| { rm -f openapi/openapi.json.new; exit 1; }
	mv openapi/openapi.json.new openapi/openapi.json
