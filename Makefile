# `make` lists the targets.

SHELL := /bin/bash
.DEFAULT_GOAL := help

# What the binary reports; a source archive has no tags.
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X github.com/fraiseql/observer/cmd.version=$(VERSION)
LINT    := go tool -modfile=tools.mod golangci-lint

# make run ARGS="run --config my.toml"
ARGS ?= run --config examples/00-quickstart.toml --input examples/orders.ndjson

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-22s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## build the static binary bin/observer
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/observer ./cmd/observer

.PHONY: run
run: ## run the quickstart, which needs no service (ARGS="..." runs another command)
	go run ./cmd/observer $(ARGS)

.PHONY: test
test: install-test-servers ## install missing test servers and run all tests with the race detector; -short: the universal suites with few messages
	CGO_ENABLED=1 go test -race -short -shuffle=on -timeout 20m ./...

.PHONY: check
check: tidy-check fmt-check lint vet test ## everything a change must pass: modules, format, lint, vet, tests

.PHONY: bench
bench: install-test-servers ## measure throughput and latency against raw clients, some minutes
	go run ./bench

# The fault tests of events on a bus.
BUS := Stream|Worker|Partitions|Fleet|FullDisk|ABridge

.PHONY: faults
faults: install-test-servers ## run the fault tests as long as the promises ask for, a quarter of an hour; FAULTS=regexp picks some
	OBSERVER_FAULTS=long go test -count=1 -timeout 30m -v -run '$(or $(FAULTS),.)' -skip '$(BUS)' ./internal/faults

.PHONY: fleet
fleet: install-test-servers ## the same with events on NATS and Redis Streams, where servers die at random for five minutes
	OBSERVER_FAULTS=long go test -count=1 -timeout 40m -v -run '$(or $(FAULTS),$(BUS))' ./internal/faults

.PHONY: suites
suites: install-test-servers ## run the suites of every transport in full, some minutes
	CGO_ENABLED=1 go test -race -count=1 -timeout 20m -run 'Suite' ./pipeline/...

.PHONY: fmt
fmt: ## format the code
	$(LINT) fmt

.PHONY: fmt-check
fmt-check:
	$(LINT) fmt --diff

.PHONY: lint
lint: ## run the linters; the first run builds them, some minutes
	$(LINT) run ./...

.PHONY: vet
vet:
	go vet ./...

.PHONY: tidy-check
tidy-check:
	go mod tidy -diff

.PHONY: install-test-servers
install-test-servers: ## install what the tests need, where apt-get can; else say what is missing
	@scripts/install-test-servers
