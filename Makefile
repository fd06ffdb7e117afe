# Holdfast. `make` alone lists what there is.

SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -c
GO    ?= go
# Rooms in which things happen at once: their tests run under the race detector.
RACED := . ./cmd/... ./internal/...
# Rooms on the hot path: make test runs each of their benchmarks once, make bench measures with them.
BENCHED := ./internal/tally ./internal/store ./internal/payment ./internal/web/api
# Other systems that the program builds for.
ELSEWHERE := windows/amd64 darwin/arm64

.PHONY: help
help: ## list these targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 22

.PHONY: build
build: ## build the program into ./holdfast
	$(GO) build -trimpath -o holdfast ./cmd/holdfast

.PHONY: test
test: needs check ## everything CI runs: formatting, vet, staticcheck, other systems, all tests with the race detector; prints the figures of each regime
	$(GO) test -race -timeout 20m -v $(GO_TEST_FLAGS) $(RACED) | awk -f tools/figures.awk
	$(GO) test -run '^$$' -bench . -benchtime 1x $(BENCHED)
	$(GO) test -count 1 -run '^TestOverload$$' -v ./cmd/holdfast | awk -f tools/figures.awk
	$(GO) test -count 1 -run '^TestWorld$$' -v ./internal/world | awk -f tools/figures.awk

.PHONY: quick
quick: ## all tests without the race detector
	$(GO) test -timeout 10m ./...

.PHONY: check
check: ## formatting, vet, staticcheck, and that the program builds for other systems
	@unformatted=$$(gofmt -l $$(git ls-files --cached --others --exclude-standard '*.go')); \
	  if [ -n "$$unformatted" ]; then echo "not formatted (run make fmt):"; echo "$$unformatted"; exit 1; fi
	$(GO) vet ./...
	$(GO) tool -modfile=tools/go.mod staticcheck ./...
	@for system in $(ELSEWHERE); do \
	  GOOS=$${system%/*} GOARCH=$${system#*/} $(GO) build -o /dev/null ./cmd/holdfast || { echo "it does not build for $$system"; exit 1; }; done

.PHONY: fmt
fmt: ## format all Go files
	gofmt -w $$(git ls-files --cached --others --exclude-standard '*.go')

.PHONY: needs
needs: ## install what the tests need and the machine has not: a C compiler for the race detector, PostgreSQL, Chromium and axe-core for the pages
	@tools/needs

# Where make bench writes, and how much it does.
BENCH    ?= bench-results
DURATION ?= 60s
PRELOAD  ?= 1000000
RATES    ?= 100,200,400,600,800,1000,1200
.PHONY: bench
bench: build ## measure everything of docs/performance.md and write it, with plots, into bench-results (half an hour)
	mkdir -p $(BENCH)
	$(GO) test -run '^$$' -bench . -benchmem $(BENCHED) | tee $(BENCH)/rooms.txt
	./holdfast bench --local --duration $(DURATION) --concurrency 64 --ceiling --json | tee $(BENCH)/headline.json
	./holdfast bench --local --duration 20s --sweep concurrency=1,2,4,8,16,32,64,128,256 --json | tee $(BENCH)/concurrency.json
	./holdfast bench --local --duration 20s --sweep rate=$(RATES) --concurrency 256 --json | tee $(BENCH)/rates.json
	./holdfast bench --local --duration $(DURATION) --sweep preload=0,$(PRELOAD),0,$(PRELOAD) --json | tee $(BENCH)/preload.json
	./holdfast bench --local --duration 20s --sweep shops=1,100,1,100 --json | tee $(BENCH)/shops.json
	./holdfast plot $(BENCH)/concurrency.json $(BENCH)/rates.json --out $(BENCH)/plots
	./holdfast plot $(BENCH)/headline.json --out $(BENCH)/plots

KILLS ?= 200
.PHONY: kill
kill: ## kill the gateway KILLS times under load (default 200) and look for what is lost or doubled
	KILLS=$(KILLS) $(GO) test -count 1 -timeout 60m -run TestKillUnderLoad -v ./cmd/holdfast

SEEDS ?= 1000000
FROM ?= 1
.PHONY: world
world: ## play SEEDS worlds (default 1000000) on all cores, from seed FROM on (default 1), until one fails
	$(GO) test -count 1 -timeout 0 -run '^TestWorld$$' -v ./internal/world -seeds $(SEEDS) -from $(FROM)

.PHONY: world-postgres
world-postgres: ## the same on PostgreSQL, where a world takes about ten times as long
	$(GO) test -count 1 -timeout 0 -run '^TestWorldOnPostgreSQL$$' -v ./internal/world -seeds $(SEEDS) -from $(FROM)

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
docs: ## write the generated parts of the documentation anew, and the inventory of the scripts of the card page
	$(GO) test . -run TestGenerated -update
	$(GO) test ./internal/web/pages -run TestScriptInventory -update

.PHONY: demo
demo: ## watch all flows on the terminal
	$(GO) run ./cmd/holdfast demo --walk
