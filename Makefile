# Posta's commands. `make` alone lists them; `make check` is what CI runs.

GO      ?= go
BUILD   := build
FUZZTIME ?= 30s

# check ends with go test, so that the last lines are its result.
# TESTTIME limits each package, not all of them together.
TESTTIME := 600s

.DEFAULT_GOAL := help
.PHONY: help up test check lint bench chaos chaos-mutants chaos-cluster chaos-mutants-cluster model fuzz cover pictures setup fmt clean

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

up: ## start a balancer and three nodes on this machine (Ctrl-C stops them)
	$(GO) run ./cmd/posta up

test: ## run the quick tests and list what they skipped; under a minute
	@scripts/test.sh

check: ## check everything that CI checks: format, lint, build, fuzz, race, real servers, README
	@scripts/check.sh

lint: $(BUILD)/golangci-lint ## run the linters of .golangci.yml
	$(BUILD)/golangci-lint run ./...
	cd lab && ../$(BUILD)/golangci-lint run --config ../.golangci.yml ./...

bench: ## compare Posta with a minimal line server: rates, spread, ratios
	$(GO) run -C lab ./bench

chaos: ## kill a node 100 times, and workers, under load and report whether it kept its promises; ten minutes
	$(GO) run -C lab ./chaos/run --kills 100 --tasks 6000 --poison 5 --pauses 15 --long-pauses 2 --restarts 6 --workers

chaos-mutants: ## remove one guard after another, which the checker must notice; ten minutes
	$(GO) run -C lab ./chaos/run --mutants

chaos-cluster: $(BUILD)/versitygw ## like chaos with three nodes, RabbitMQ, PostgreSQL and S3, and kill each of them; 45 minutes
	POSTA_CHAOS_CLUSTER=100 POSTA_CHECK=1 $(GO) test -C lab ./chaos -run TestAClusterKeepsItsPromises -count 1 -v -timeout 6h

chaos-mutants-cluster: $(BUILD)/versitygw ## like chaos-mutants for the guards of the PostgreSQL store; 20 minutes
	POSTA_CHAOS_MUTANTS=1 POSTA_CHECK=1 $(GO) test -C lab ./chaos -run TestEachMutantOfTheClusterIsCaught -count 1 -v -timeout 2h

model: ## test each store with 2000 random schedules; half an hour
	POSTA_CHECK=1 $(GO) test ./store/sqlite ./store/postgres -run '^TestStore(BehindPgBouncer)?$$/^model$$' -count 1 -v -rapid.checks=2000 -timeout 6h

fuzz: ## run each fuzz target for FUZZTIME (30s)
	scripts/fuzz.sh $(FUZZTIME)

cover: ## measure test coverage
	@mkdir -p $(BUILD)
	$(GO) test -timeout $(TESTTIME) -coverpkg=./... -coverprofile=$(BUILD)/cover.out ./...
	@$(GO) tool cover -func=$(BUILD)/cover.out | tail -n 1
	@echo 'line by line: $(GO) tool cover -html=$(BUILD)/cover.out'

pictures: ## take the pictures in docs/pictures again, with Chromium
	POSTA_CHECK=1 POSTA_PICTURES=$(CURDIR)/docs/pictures $(GO) test ./dashboard/browser ./examples/web -run 'Sound|InChromium' -count 1

setup: ## install the programs that the tests need (Debian, root or sudo)
	scripts/setup.sh
	@$(MAKE) --no-print-directory $(BUILD)/versitygw $(BUILD)/tsc

fmt: ## format the Go files
	gofmt -w .

clean: ## delete the build directory
	rm -rf $(BUILD)

# Built from tools/go.mod, so that Posta's go.mod does not have the linter's many dependencies.
$(BUILD)/golangci-lint: tools/go.mod tools/go.sum
	@mkdir -p $(BUILD)
	$(GO) build -C tools -o ../$@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint

# The S3 server of the tests, likewise.
$(BUILD)/versitygw: tools/s3server/go.mod tools/s3server/go.sum
	@mkdir -p $(BUILD)
	$(GO) build -C tools/s3server -o ../../$@ github.com/versity/versitygw/cmd/versitygw

# The TypeScript compiler that checks the types of sdk/js, as tools/typescript/package-lock.json pins it.
$(BUILD)/tsc: tools/typescript/package.json tools/typescript/package-lock.json
	@mkdir -p $(BUILD)/typescript
	cp $^ $(BUILD)/typescript
	npm ci --prefix $(BUILD)/typescript --no-audit --no-fund --loglevel=error
	printf '#!/bin/sh\nexec "$$(dirname "$$0")/typescript/node_modules/.bin/tsc" "$$@"\n' >$@
	chmod +x $@
