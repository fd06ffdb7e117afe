# Holdfast. `make` alone lists what there is.

SHELL := /bin/bash
GO    ?= go
# Rooms in which things happen at once: their tests run under the race detector.
RACED := . ./cmd/... ./internal/...

.PHONY: help
help: ## list these targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 22

.PHONY: build
build: ## build the program into ./holdfast
	$(GO) build -trimpath -o holdfast ./cmd/holdfast

.PHONY: test
test: needs check ## everything CI runs: formatting, vet, staticcheck, all tests with the race detector
	$(GO) test -race -timeout 20m $(GO_TEST_FLAGS) $(RACED)

.PHONY: quick
quick: ## all tests without the race detector
	$(GO) test -timeout 10m ./...

.PHONY: check
check: ## formatting, vet, staticcheck
	@unformatted=$$(gofmt -l $$(git ls-files --cached --others --exclude-standard '*.go')); \
	  if [ -n "$$unformatted" ]; then echo "not formatted (run make fmt):"; echo "$$unformatted"; exit 1; fi
	$(GO) vet ./...
	$(GO) tool -modfile=tools/go.mod staticcheck ./...

.PHONY: fmt
fmt: ## format all Go files
	gofmt -w $$(git ls-files --cached --others --exclude-standard '*.go')

.PHONY: needs
needs: ## install what the tests need and the machine has not: a C compiler for the race detector, Chromium and axe-core for the pages
	@tools/needs

.PHONY: bench
bench: ## benchmarks of the rooms, and then whole payments a second with the books checked after it
	$(GO) test -run '^$$' -bench . -benchmem ./internal/store ./internal/payment ./internal/web/api
	$(GO) run ./cmd/holdfast bench --local --duration 60s --concurrency 64 --ceiling

KILLS ?= 200
.PHONY: kill
kill: ## kill the gateway KILLS times under load (default 200) and look for what is lost or doubled
	KILLS=$(KILLS) $(GO) test -count 1 -timeout 60m -run TestKillUnderLoad -v ./cmd/holdfast

STORM ?= 50
.PHONY: storm
storm: ## play the storms of decisions, the histories and the edge of the deadline STORM times (default 50)
	STORM=$(STORM) $(GO) test -count 1 -timeout 120m -run 'TestStorm|TestHistories|TestEdgeOfTheDeadline' -v ./internal/gateway ./internal/web/api

OVERLOAD ?= 60s
.PHONY: overload
overload: ## ask the gateway for more than it can do for OVERLOAD (default 60s); captures and deadlines must go on
	OVERLOAD=$(OVERLOAD) $(GO) test -count 1 -timeout 60m -run 'TestOverload|TestStop$$' -v ./cmd/holdfast

GUESSES ?= 1000000
.PHONY: guesses
guesses: ## guess codes and ids GUESSES times (default 1000000) from many addresses
	GUESSES=$(GUESSES) $(GO) test -count 1 -timeout 120m -run TestGuesses -v ./internal/web/api

CANARIES ?= 1000
.PHONY: canary
canary: ## play CANARIES payments (default 1000) with kills, and look for secrets on the disk and in the log
	CANARIES=$(CANARIES) $(GO) test -count 1 -timeout 120m -run TestCanaries -v ./cmd/holdfast

FUZZTIME ?= 1m
.PHONY: fuzz
fuzz: ## fuzz every parser for FUZZTIME each (default 1m)
	@tools/fuzz $(FUZZTIME)

.PHONY: docs
docs: ## write the generated parts of the documentation anew
	$(GO) test . -run TestGenerated -update

.PHONY: demo
demo: ## watch all flows on the terminal
	$(GO) run ./cmd/holdfast demo --walk
