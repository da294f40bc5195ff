# Ovenbird: bakes Kubernetes nodes and runs their control plane. `make help` lists the targets.
.DEFAULT_GOAL := help
.NOTPARALLEL:
SHELL := /bin/bash

COMMIT  := $(shell git describe --always --dirty --abbrev=12 2>/dev/null || echo unknown)
RELEASE := 0.1.0
CLI     := github.com/ovenbird-dev/ovenbird/internal/cli
LDFLAGS := -s -w -X $(CLI).release=$(RELEASE) -X $(CLI).commit=$(COMMIT) \
           -X $(CLI).components=$(shell scripts/components --versions)
GOBUILD := go build -ldflags '$(LDFLAGS)'

# The same for building and testing, so that one fills the build cache for the other.
export CGO_ENABLED := 0
export GOFLAGS := $(shell go env GOFLAGS) -trimpath -buildvcs=false

UNIT_PACKAGES = $(shell go list ./... | grep -v /test/e2e)
GOLANGCI_LINT := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: up
up: prepare ## Bake a node, create a cluster, boot a node into it and run a pod
	@scripts/up

.PHONY: down
down: ## Stop and remove the instances, the clusters and the lab
	@scripts/down

.PHONY: build
build: initrd evaluator ## Compile Ovenbird's own programs into bin/
	@$(GOBUILD) -o bin/ovenbird ./control-plane
	@$(GOBUILD) -o bin/ovenbird-agent ./agent
	@$(GOBUILD) -o bin/ovenbird-lab ./lab
	@$(GOBUILD) -o bin/packer-plugin-ovenbird ./packer
	@ln -sfn packer-plugin-ovenbird bin/ovenbird-image

# The program of the image's initrd, which the plugin carries.
.PHONY: initrd
initrd:
	@go build -ldflags '-s -w' -o packer/initrd/program/init ./packer/initrd/init

# The program that the agent evaluates expressions with, and carries.
.PHONY: evaluator
evaluator:
	@go build -ldflags '-s -w' -o agent/kubelet/maxpods/program/evaluator ./agent/kubelet/maxpods/evaluator

.PHONY: setup
setup: ## Install the Debian packages that are missing
	@scripts/setup

.PHONY: components
components: setup ## Build the upstream programs that are missing into dist/components/
	@scripts/components

.PHONY: image
image: components build ## Bake the node image into .ovenbird/image/
	@scripts/image

.PHONY: release
release: setup build ## Pack the Packer plugin into dist/release/, as packer init takes it
	@scripts/release

# What make up and the tests start from; each step does nothing when it is done already.
.PHONY: prepare
prepare: setup components
	@scripts/step "compiling Ovenbird" dist/logs/build.log $(MAKE) --no-print-directory build
	@scripts/image

.PHONY: test
test: prepare unit e2e ## Run every test: unit, integration and end-to-end

.PHONY: unit
unit: setup components initrd evaluator ## Run the unit and integration tests
	go test -p 2 -timeout 30m $(UNIT_PACKAGES)
	@$(MAKE) --no-print-directory fuzz

# Inputs found earlier are in Go's build cache and come first. Without the limit, most of the time
# goes into making new ones small. Two targets run beside each other.
.PHONY: fuzz
fuzz: ## Fuzz what the agent and the service read, FUZZTIME (30s) for each target
	@grep -r --include=*_test.go -o '^func Fuzz[A-Za-z0-9]*' . | sed 's,/[^/]*:func , ,' | \
	  xargs -n 2 -P 2 sh -c 'exec go test -run "^\$$" -fuzz "^$$1\$$" -fuzztime $(or $(FUZZTIME),30s) -fuzzminimizetime 100x -parallel 1 "$$0"'

.PHONY: e2e
e2e: prepare ## Run the end-to-end test on its own lab
	go test -v -count=1 -timeout 40m ./test/e2e

.PHONY: e2e-full
e2e-full: prepare ## Run the end-to-end test with what takes long: events, a reboot, earlier Kubernetes minors
	@scripts/components --all
	OVENBIRD_FULL=1 go test -v -count=1 -run TestKubeletTakesTheFiles ./agent
	OVENBIRD_FULL=1 go test -v -count=1 -timeout 120m ./test/e2e

.PHONY: bench
bench: prepare ## Measure; prints a table and writes .ovenbird/bench.json
	@go run ./test/bench

.PHONY: lint
lint: ## Run golangci-lint, and cfn-lint and the formatter's check on the templates
	go run $(GOLANGCI_LINT) run ./...
	scripts/format-templates --check
	scripts/cfn-lint cloudformation/*.yaml

.PHONY: format
format: ## Format the CloudFormation templates
	@scripts/format-templates

.PHONY: clean
clean: down ## Remove everything that was built here, the image and the caches included
	@rm -rf bin dist .ovenbird
	@cd "$${OVENBIRD_CACHE:-$${XDG_CACHE_HOME:-$$HOME/.cache}/ovenbird}" 2>/dev/null && rm -rf components debs tools || true
