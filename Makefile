# make            build bin/grpc-tap
# make demo       a fake node behind grpc-tap, one scene
# make test       everything that CI runs (as root: against a real containerd too)
# make e2e        the long ones: critest against containerd 2.x and a real kubelet with
#                 static pods, both directly and through grpc-tap; a cluster of one
#                 node, whose pods have CSI volumes, with an OpenTelemetry Collector; and
#                 many nodes' spans through several
# make image      the container image for amd64 and arm64, from scratch, and its SBOMs: an
#                 OCI layout in bin/image
# make bench      what it costs, beside direct, a plain relay, a grpc-go proxy and socat:
#                 writes docs/benchmarks.md
# make soak       attach and detach 1,000 times, kill the relay 300 times, restart
#                 containerd 100 times, move 200 older clients, replace taps and relays
#                 100 times, under traffic and a kubelet that starts pods; create and
#                 delete pods with CSI volumes for ten minutes; an hour without a collector:
#                 docs/operations.md has the result
# make hang       an NFS mount that hangs for 125 s, through the CSI driver and grpc-tap
# make fuzz       each fuzz target for FUZZTIME
# make vuln       known vulnerabilities of what we link (asks the vulnerability database)
# make clean      what these targets made

VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
COMMIT   ?= $(shell git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
FUZZTIME ?= 5s
LDFLAGS   = -s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT)
TOOL      = go tool -modfile=tools/go.mod

bin/grpc-tap: FORCE
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o $@ ./cmd/grpc-tap

demo: bin/grpc-tap
	bin/grpc-tap demo --once

image:
	for arch in amd64 arm64; do \
		CGO_ENABLED=0 GOOS=linux GOARCH=$$arch go build -trimpath -ldflags '$(LDFLAGS)' -o bin/grpc-tap-$$arch ./cmd/grpc-tap || exit 1; \
	done
	cd tools/image && go run . -out ../../bin/image -version '$(VERSION)' -revision '$(COMMIT)' -created "$$(date -u +%Y-%m-%dT%H:%M:%SZ)" \
		amd64=../../bin/grpc-tap-amd64 arm64=../../bin/grpc-tap-arm64

test: deps lint unit fuzz real
	@echo "make test: everything passed"

# What the tests need of Debian: a C compiler for the race detector, and the
# real runtime. Nothing is installed where it is there already.
deps:
	sh test/deps.sh

lint:
	@test -z "$$(gofmt -l .)" || { echo "not gofmt-ed:"; gofmt -l .; exit 1; }
	go vet ./...
	go vet -tags critest,kubelet,cluster,long ./test/...
	$(TOOL) staticcheck ./...

# All but the end-to-end tests, with the race detector; and what has modules of its own.
unit:
	CGO_ENABLED=1 go test -race ./cmd/... ./internal/... ./test/fakecri/...
	cd tools/image && go vet ./... && go test ./...
	cd test/manifests && go vet ./... && go test ./...

fuzz:
	sh test/fuzz.sh $(FUZZTIME)

# The binary as a process, between fakes and between real components.
real:
	sh test/real.sh

e2e: deps
	sh test/lab/critest.sh
	sh test/lab/kubelet.sh
	sh test/lab/cluster.sh
	sh test/lab/tier.sh

bench: bin/grpc-tap
	go run ./bench

soak: deps
	SOAK=1 go test -count=1 -v -timeout 150m -run '^Test(Attach(Cycles|RelayKilled|RelayKilledAtRest|CgroupKilled|ServerReplaced|ContainerdRestarts|DriverRestarts|Live.*)|Stand(TapKilled|RelayReplaced)|FailOpenReplaced)$$' ./test/e2e
	SOAK=1 sh test/lab/kubelet.sh -timeout 60m -run '^TestKubelet(Swapped|Taken)$$'
	CHURN=10m sh test/lab/cluster.sh -timeout 30m -run '^TestClusterChurn$$'
	OUTAGE=1h go test -count=1 -v -timeout 90m -run '^TestAgentCollectorAbsent$$' ./test/e2e

hang: deps
	go test -tags long -count=1 -v -timeout 5m -run '^TestCSIMountHangs$$' ./test/e2e

vuln:
	$(TOOL) govulncheck ./...

clean:
	rm -rf bin .cache

FORCE:
.PHONY: bench demo image test deps lint unit fuzz real e2e soak hang vuln clean FORCE
