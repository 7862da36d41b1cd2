# Posta's commands. `make` alone prints what there is; `make check` is what CI runs.

GO      ?= go
BUILD   := build
FUZZTIME ?= 30s

# check ends with go test, so that the last lines are its verdict in its own words.
# TESTTIME bounds each package, not the whole.
TESTTIME := 600s

.DEFAULT_GOAL := help
.PHONY: help up test check lint bench chaos chaos-mutants chaos-cluster chaos-mutants-cluster model fuzz cover setup fmt clean

help: ## what make can do
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

up: ## start a balancer and three nodes on this machine (Ctrl-C stops them)
	$(GO) run ./cmd/posta up

test: ## the quick tests, under a minute, and a list of what they skipped
	@scripts/test.sh

check: ## everything that CI checks: format, lint, build, fuzz, race, real servers, README
	@scripts/check.sh

lint: $(BUILD)/golangci-lint ## the strict lint of .golangci.yml
	$(BUILD)/golangci-lint run ./...
	cd lab && ../$(BUILD)/golangci-lint run --config ../.golangci.yml ./...

bench: ## Posta beside a bare line server: rates, spread, ratios
	$(GO) run -C lab ./bench

chaos: ## 100 kills of a node under load, and a page that says whether the promises were kept; ten minutes
	$(GO) run -C lab ./chaos/run --kills 100 --tasks 6000 --poison 5 --pauses 15 --long-pauses 2 --restarts 6

chaos-mutants: ## runs Posta with one guard removed after the other, which the checker must notice; ten minutes
	$(GO) run -C lab ./chaos/run --mutants

chaos-cluster: $(BUILD)/versitygw ## the same on three nodes, RabbitMQ, PostgreSQL and S3, each of which is killed too; 45 minutes
	POSTA_CHAOS_CLUSTER=100 POSTA_CHECK=1 $(GO) test -C lab ./chaos -run TestAClusterKeepsItsPromises -count 1 -v -timeout 6h

chaos-mutants-cluster: $(BUILD)/versitygw ## the same for the guards of the PostgreSQL store, on the cluster; 20 minutes
	POSTA_CHAOS_MUTANTS=1 POSTA_CHECK=1 $(GO) test -C lab ./chaos -run TestEachMutantOfTheClusterIsCaught -count 1 -v -timeout 2h

model: ## the stores on schedules drawn by chance, 2000 for each; half an hour
	POSTA_CHECK=1 $(GO) test ./store/sqlite ./store/postgres -run '^TestStore(BehindPgBouncer)?$$/^model$$' -count 1 -v -rapid.checks=2000 -timeout 6h

fuzz: ## each fuzz target for FUZZTIME (30s)
	scripts/fuzz.sh $(FUZZTIME)

cover: ## how much of each package the tests run
	@mkdir -p $(BUILD)
	$(GO) test -timeout $(TESTTIME) -coverpkg=./... -coverprofile=$(BUILD)/cover.out ./...
	@$(GO) tool cover -func=$(BUILD)/cover.out | tail -n 1
	@echo 'line by line: $(GO) tool cover -html=$(BUILD)/cover.out'

setup: ## install what the tests need and this machine lacks (Debian, root or sudo)
	scripts/setup.sh
	@$(MAKE) --no-print-directory $(BUILD)/versitygw

fmt: ## format the Go files
	gofmt -w .

clean: ## delete what was built
	rm -rf $(BUILD)

# Made from tools/go.mod, so that the linter's many dependencies stay out of ours.
$(BUILD)/golangci-lint: tools/go.mod tools/go.sum
	@mkdir -p $(BUILD)
	$(GO) build -C tools -o ../$@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint

# The S3 server of the tests, likewise.
$(BUILD)/versitygw: tools/s3server/go.mod tools/s3server/go.sum
	@mkdir -p $(BUILD)
	$(GO) build -C tools/s3server -o ../../$@ github.com/versity/versitygw/cmd/versitygw
