# SPDX-License-Identifier: Apache-2.0
#
#   make            build/wisp and build/wisp-jailer (installs nothing; names a missing package)
#   make demo       installs what it needs, builds all, boots a Linux guest and shows its timeline
#   make test       all tests, on any host          make bench BENCH=boot|start|block|net|jail [PEER=path]
#   make check      format, lint, include direction
#
# SAN=address,undefined or SAN=thread builds a second tree with those sanitizers.

comma := ,
BUILD ?= build
OUT := $(BUILD)$(if $(SAN),/san-$(subst $(comma),-,$(SAN)))

CXX ?= g++
OPT ?= -O2
WARN := -Wall -Wextra -Werror -Wshadow -Wconversion -Wno-sign-conversion -Wnon-virtual-dtor -Woverloaded-virtual
HARDEN := $(if $(SAN),,-D_FORTIFY_SOURCE=2) -fstack-protector-strong -fcf-protection -fstack-clash-protection
CXXFLAGS += -std=c++23 $(OPT) -g1 $(WARN) $(HARDEN) -fno-exceptions -fno-rtti -fno-plt -ffunction-sections -fdata-sections \
            -I. $(if $(SAN),-fsanitize=$(SAN) -fno-sanitize=vptr -fno-omit-frame-pointer)
LDFLAGS += -Wl,--gc-sections -Wl,-z,relro,-z,now,-z,noexecstack,-z,separate-code
# Static, so that a jail holds one file; with sanitizers dynamic, because they need it.
STATIC := $(if $(SAN),-pie -fsanitize=$(SAN),-static-pie)
PIE := -fPIE

BASE_SRC := $(wildcard base/*.cc)
VIRTIO_SRC := $(wildcard virtio/*.cc)
VMM_SRC := $(filter-out vmm/main.cc,$(wildcard vmm/*.cc vmm/*/*.cc))
API_SRC := $(wildcard api/*.cc)
JAILER_SRC := $(filter-out jailer/main.cc jailer/runtime.cc,$(wildcard jailer/*.cc jailer/*/*.cc))
UNIT_SRC := $(wildcard tests/unit/*.cc tests/support/*.cc)
objects = $(patsubst %.cc,$(OUT)/obj/%.o,$(1))

.DELETE_ON_ERROR:
.PHONY: all
all: packages-build
	@$(MAKE) --no-print-directory programs
.PHONY: programs
programs: $(OUT)/wisp $(OUT)/wisp-jailer

# `make` installs nothing: it names what is missing. `make demo`, `make test`, `make bench` and `make check` install.
.PHONY: packages-build setup-%
packages-build:
	@missing=$$(setup/install-packages --missing build); [ -z "$$missing" ] || { \
	    echo "make: missing packages:" $$missing "(make demo installs them, or: setup/install-packages build)" >&2; exit 1; }
setup-%:
	@setup/install-packages $(subst -, ,$*)

# What guests boot; each script skips what is already built.
.PHONY: kernel rootfs
kernel:
	@kernel-config/build-kernel
rootfs:
	@kernel-config/build-rootfs

.PHONY: demo test check bench
demo: setup-build-kernel-lab
	@$(MAKE) --no-print-directory -j$(shell nproc) programs
	@$(MAKE) --no-print-directory kernel
	@$(MAKE) --no-print-directory rootfs
	@demo/run

TESTED := programs $(OUT)/unit-tests $(OUT)/api-server $(OUT)/tests/wisp-jailer-faults $(OUT)/tests/jail-probe guests bench-net-tools \
          $(OUT)/tests/net_probe
test: setup-build-kernel-lab-test
	@$(MAKE) --no-print-directory -j$(shell nproc) $(TESTED)
	@$(MAKE) --no-print-directory kernel
	@$(MAKE) --no-print-directory rootfs
	@tests/run $(TIERS)

check: setup-build-check
	@/usr/bin/python3 -B tests/check.py

bench: setup-build-kernel-lab-test
	@$(MAKE) --no-print-directory -j$(shell nproc) programs guests $(BUILD)/bench/spawn_timer bench-block-tools bench-net-tools $(BUILD)/bench/jail_payload
	@$(MAKE) --no-print-directory kernel
	@$(MAKE) --no-print-directory rootfs
	@/usr/bin/python3 -B bench/$(or $(BENCH),start).py

$(OUT)/wisp: $(call objects,vmm/main.cc $(VMM_SRC) $(API_SRC) $(VIRTIO_SRC) $(BASE_SRC))
	@echo "  link     $@"
	@$(CXX) $(CXXFLAGS) $(STATIC) $(LDFLAGS) -o $@ $^ -l:liburing.a -l:libhttp_parser.a

# Only the parts of base that the jailer uses: it starts once for each microVM, and pays for every page it touches.
JAIL_SRC := jailer/runtime.cc $(filter-out jailer/policy/%,$(JAILER_SRC)) base/check.cc base/fd.cc base/result.cc
# Relocations in the short form: fewer pages to read and write at every start.
$(OUT)/wisp-jailer $(OUT)/tests/wisp-jailer-faults: LDFLAGS += -Wl,-z,pack-relative-relocs
$(OUT)/wisp-jailer: $(call objects,jailer/main.cc $(JAIL_SRC))
	@echo "  link     $@"
	@$(CXX) $(CXXFLAGS) $(STATIC) $(LDFLAGS) -o $@ $^

# The same program with a way to make each step fail, for its tests.
$(OUT)/obj/faults/jailer/jail.o: CXXFLAGS += -DWISP_JAILER_FAULTS
$(OUT)/obj/faults/%.o: %.cc Makefile
	@mkdir -p $(@D)
	@echo "  c++      $< (faults)"
	@$(CXX) $(CXXFLAGS) $(PIE) -MMD -MP -c -o $@ $<
$(OUT)/tests/wisp-jailer-faults: $(OUT)/obj/faults/jailer/jail.o $(call objects,$(filter-out jailer/jail.cc,jailer/main.cc $(JAIL_SRC)))
	@mkdir -p $(@D)
	@echo "  link     $@"
	@$(CXX) $(CXXFLAGS) $(STATIC) $(LDFLAGS) -o $@ $^

# System call policies become BPF when Wisp is built: jailer/policy/compiler.
$(OUT)/policy-compiler: jailer/policy/compiler/main.cc $(wildcard jailer/policy/*.h) Makefile
	@mkdir -p $(@D)
	@echo "  c++      $<"
	@$(CXX) -std=c++23 -O1 -I. -Wall -Wextra -Werror -o $@ $< -lseccomp
$(OUT)/generated/policy_filters.inc: $(OUT)/policy-compiler
	@mkdir -p $(@D)
	@$< > $@
$(OUT)/obj/jailer/policy/filter.o: CXXFLAGS += -I$(OUT)/generated
$(OUT)/obj/jailer/policy/filter.o: $(OUT)/generated/policy_filters.inc

# What the jailer's tests put into a jail.
$(OUT)/tests/jail-probe: tests/jailer/probe.cc Makefile
	@mkdir -p $(@D)
	@$(CXX) -std=c++23 -O1 -Wall -Wextra -Werror -static -o $@ $<

# What a Linux guest needs to be talked to by UDP.
$(OUT)/tests/net_probe: tests/linux/net_probe.cc Makefile
	@mkdir -p $(@D)
	@$(CXX) -std=c++23 -O1 -Wall -Wextra -Werror -static -o $@ $<

# Needs root, or runs in the lab: there on hosts of each kind of cgroup.
.PHONY: jailer-tests
jailer-tests: $(OUT)/wisp-jailer $(OUT)/tests/wisp-jailer-faults $(OUT)/tests/jail-probe
	@/usr/bin/python3 -m pytest -q -p no:cacheprovider tests/jailer

# Catch2 reports a failed check by an exception, so the tests, and they alone, are built with them.
UNIT_FLAGS := -fexceptions -frtti -Wno-conversion -Wno-shadow
$(OUT)/obj/tests/%.o: CXXFLAGS += $(UNIT_FLAGS)
$(OUT)/unit-tests: $(call objects,$(UNIT_SRC) $(VMM_SRC) $(API_SRC) $(JAILER_SRC) $(VIRTIO_SRC) $(BASE_SRC))
	@echo "  link     $@"
	@$(CXX) $(CXXFLAGS) -pie -o $@ $^ -l:liburing.a -lseccomp -lhttp_parser

.PHONY: unit
unit: $(OUT)/unit-tests
	@$(OUT)/unit-tests

# The API with a machine that only takes notes, for the tests of the API.
$(OUT)/api-server: $(call objects,tests/api/api_server.cc $(VMM_SRC) $(API_SRC) $(VIRTIO_SRC) $(BASE_SRC))
	@echo "  link     $@"
	@$(CXX) $(CXXFLAGS) -pie -o $@ $^ -l:liburing.a -l:libhttp_parser.a

# Tiny guests: a few hundred instructions each, without a kernel.
GUESTS := $(patsubst tests/guest/asm/%.S,$(BUILD)/guests/%,$(wildcard tests/guest/asm/*.S))
.PHONY: guests
guests: $(GUESTS)
$(BUILD)/guests/%: tests/guest/asm/%.S tests/guest/asm/guest.inc tests/guest/asm/guest.ld
	@mkdir -p $(@D)
	@$(CC) -nostdlib -static -no-pie -Wa,-Itests/guest/asm -Wl,-T,tests/guest/asm/guest.ld -Wl,--build-id=none \
	    -Wl,--no-warn-rwx-segments -o $@ $<

$(BUILD)/bench/jail_payload: bench/jail_payload.S
	@mkdir -p $(@D)
	@$(CC) -nostdlib -static -no-pie -Wl,--build-id=none -o $@ $<

.PHONY: bench-jail
bench-jail: $(OUT)/wisp-jailer $(BUILD)/bench/jail_payload
	@python3 bench/jail.py

$(BUILD)/bench/spawn_timer: bench/spawn_timer.cc Makefile
	@mkdir -p $(@D)
	@$(CXX) -std=c++23 -O2 -Wall -Wextra -Werror -static -o $@ $<

$(BUILD)/bench/tsc_khz: bench/tsc_khz.cc Makefile
	@mkdir -p $(@D)
	@$(CXX) -std=c++23 -O2 -Wall -Wextra -Werror -static -o $@ $<

# Bench guests: freestanding programs that drive a device from ring 3. The compiler must not use SSE, which nobody has
# switched on, nor call memset from within memset.
$(BUILD)/bench/%_guest: bench/guest/%.c bench/guest/start.S bench/guest/runtime.c bench/guest/virtio.c bench/guest/runtime.h bench/guest/virtio.h bench/guest/guest.ld
	@mkdir -p $(@D)
	@$(CC) -std=gnu2x -O2 -Wall -Wextra -Werror -ffreestanding -fno-stack-protector -fno-tree-loop-distribute-patterns \
	    -fcf-protection=none -fno-pic -mno-sse -mcmodel=large -nostdlib -static -no-pie -Wl,-T,bench/guest/guest.ld \
	    -Wl,--build-id=none -Wl,--no-warn-rwx-segments -o $@ $(filter %.c %.S,$^)

$(BUILD)/bench/net_peer: bench/net_peer.cc Makefile
	@mkdir -p $(@D)
	@$(CXX) -std=c++23 -O2 -Wall -Wextra -Werror -static -o $@ $<

.PHONY: bench-net-tools
bench-net-tools: $(BUILD)/bench/tsc_khz $(BUILD)/bench/net_guest $(BUILD)/bench/net_peer

.PHONY: bench-block-tools
bench-block-tools: $(BUILD)/bench/tsc_khz $(BUILD)/bench/block_guest

$(OUT)/obj/%.o: %.cc Makefile
	@mkdir -p $(@D)
	@echo "  c++      $<"
	@$(CXX) $(CXXFLAGS) $(PIE) -MMD -MP -c -o $@ $<

-include $(shell find $(OUT)/obj -name '*.d' 2>/dev/null)
