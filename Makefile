# `make demo` and `make test` are all that a newcomer needs.
#
#   make demo                     a local cluster, uneven load, and Ballast evening it
#   make demo ARGS="-o json"      the same, with the result as JSON on standard output
#   make test                     every test, on real servers of five versions (Valkey 9.1 in two builds, one with TLS)
#   make test-languages           the example policy in nine languages gives the same plans
#   make fuzz FUZZ=20000          mutated policies and answers
#   make check-deploy             what lies in deploy/, against the schemas of those who take it
#   make check-dashboard          every query of the dashboard and the rules, asked of a daemon at work
#   make package                  target/package: a Debian package, a bill of materials, checksums
#   make check-package            the same of a debug build, held to lintian, dpkg, systemd and CycloneDX's schema
#   make check-api                the HTTP API, against its description and those who mean no good
#   make check-page               the web page in a real Chromium, on the demo; BALLAST=PROGRAM for another build
#   make test-faults FAULTS=20    the stories of faults, so many times as long; SEED=2 for other instants
#   make soak SOAK=2h             all kinds of events at random instants, and every promise at once; SEED=2 for others

BALLAST ?= target/debug/ballast
CARGO ?= cargo
ARGS ?=
FAULTS ?= 20
FUZZ ?= 20000
SEED ?= 1
SOAK ?= 5m

# $(call need,PROGRAM,WHAT TO DO): one line and exit 1 when PROGRAM is missing.
need = command -v $(1) >/dev/null 2>&1 || { echo "make: $(1) is missing: $(2)" >&2; exit 1; }

.PHONY: demo test fuzz test-faults soak test-languages build check check-api check-deploy check-dashboard check-package check-page package bench bench-clients bench-migrate bench-latency bench-plan \
  bench-languages servers policies policies-check needs-build needs-servers needs-languages

demo: needs-build needs-servers
	@scripts/servers demo
	@$(CARGO) run --locked -- demo $(ARGS)

test: needs-build needs-servers
	@scripts/servers all
	RUST_TEST_THREADS=3 $(CARGO) test --workspace --locked

# Mutated policies and mutated answers, longer than the tests do: FUZZ=100000 SEED=7.
fuzz: needs-build
	BALLAST_TEST_FUZZ=$(FUZZ) BALLAST_TEST_SEED=$(SEED) $(CARGO) test --locked --lib --test it -- --nocapture mutated_

# One line per family at its end: faults, flags found open, slots mended, lost.
test-faults: needs-build needs-servers
	@scripts/servers all
	BALLAST_TEST_FAULTS=$(FAULTS) BALLAST_TEST_KILLS=$(FAULTS) BALLAST_TEST_SEED=$(SEED) \
		$(CARGO) test --locked --test it -- --nocapture faults:: daemon::killed_at_any_moment

# Ends with a table. SEED also chooses the servers: 1 Valkey 9.1, 2 Redis 8.6, 3 Redis 7.0, 4 Valkey 8.0, and again.
soak: needs-build needs-servers
	@scripts/servers all
	BALLAST_TEST_SOAK=$(SOAK) BALLAST_TEST_SEED=$(SEED) \
		$(CARGO) test --workspace --locked --test it -- --ignored --nocapture soak::

# The example policies of nine languages: builds each with its own toolchain, and compares what they answer.
test-languages: needs-build needs-languages
	@for build in policies/examples/*/build.sh; do echo "$$build"; $$build || exit 1; done
	$(CARGO) test --locked --test languages

build: needs-build
	$(CARGO) build --workspace --locked

check: needs-build
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

# Needs no Rust: Kubernetes, KEDA and CloudFormation schemas, shellcheck, and the tests of deploy/aws.
check-deploy: needs-servers
	@$(call need,npm,apt-get install npm)
	@BALLAST="$(if $(wildcard $(BALLAST)),$(BALLAST))" scripts/check-deploy

# What is given away. The Debian package carries the bill of materials.
package: needs-build
	@$(call need,python3,apt-get install python3)
	@$(call need,dpkg-deb,apt-get install dpkg)
	$(CARGO) build --release --locked --bin ballast
	@mkdir -p target/package
	@rm -f target/package/ballast* target/package/SHA256SUMS
	@deploy/sbom target/release/ballast > target/package/ballast.cdx.json
	@deploy/debian/build target/release/ballast target/package
	@cp target/release/ballast target/package/ballast
	@cd target/package && sha256sum ballast ballast.cdx.json ballast_*.deb > SHA256SUMS && cat SHA256SUMS

check-package: needs-build needs-servers
	@$(call need,dpkg-deb,apt-get install dpkg)
	$(CARGO) build --locked --bin ballast
	@scripts/check-package target/debug/ballast

# Three minutes: a demo, a Prometheus that scrapes it, and redis_exporter.
check-dashboard: build needs-servers
	@scripts/check-dashboard

# BALLAST=path names another daemon than target/debug/ballast.
check-api: needs-servers
	@scripts/check-api

# Builds nothing: what is tried is target/debug/ballast, or what BALLAST names.
check-page: needs-servers
	@$(call need,npm,apt-get install npm)
	@$(call need,node,apt-get install nodejs)
	@scripts/servers demo
	@BALLAST=$(BALLAST) scripts/check-page $(ARGS)

# What a release is claimed to do, measured: both sides in one run.
bench: needs-build needs-servers
	@scripts/servers all
	$(CARGO) bench --locked

bench-migrate: needs-build needs-servers
	@scripts/servers all
	$(CARGO) bench --locked --bench migrate

bench-latency: needs-build needs-servers
	@scripts/servers all
	$(CARGO) bench --locked --bench latency

# Needs npm and node too, and builds a second Rust package.
bench-clients: needs-build needs-servers
	@$(call need,npm,apt-get install npm)
	@scripts/servers all
	@scripts/clients
	$(CARGO) bench --locked --bench clients

# Against its proven bounds, its peers, and HiGHS: needs no servers.
bench-plan: needs-build
	@scripts/clients solver
	$(CARGO) bench --locked --bench plan

# The table of docs/languages.md.
bench-languages: needs-build needs-languages
	@for build in policies/examples/*/build.sh; do $$build >/dev/null || exit 1; done
	@$(CARGO) bench --locked --bench languages

servers: needs-servers
	@scripts/servers all

# The embedded policies are committed: only who changes policies/ needs these.
policies: needs-build
	policies/build

policies-check: needs-build
	policies/build --check

needs-build:
	@$(call need,$(CARGO),install Rust with rustup)
	@$(call need,cc,apt-get install gcc)

needs-languages: needs-servers
	@$(call need,npm,apt-get install npm)

needs-servers:
	@$(call need,python3,apt-get install python3-pip)
