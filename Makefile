# SPDX-License-Identifier: Apache-2.0
#
#   make            build/wisp and build/wisp-jailer (installs nothing; names a missing package)
#   make demo       installs what it needs, boots Debian's kernel in a VM, then builds a small kernel and boots that
#   make test       all tests, on any host          make bench BENCH=boot|start|api|block|net|vsock|jail [PEER=path]
#   make check      format, lint, clang-tidy, include direction; PART=tidy: one part of it
#   make install    into $(DESTDIR)$(PREFIX), /usr/local by default: the programs, and the guest's kernel and images if they are built
#   make fuzz FUZZ=block_request SECONDS=60     one target of tests/fuzz, with libFuzzer
#
# SAN=address,undefined or SAN=thread builds a second tree with those sanitizers; `make test SAN=…` runs units, fuzz corpora and
# tiny guests in it.

comma := ,
BUILD ?= build
OUT := $(BUILD)$(if $(SAN),/san-$(subst $(comma),-,$(SAN)))

CXX ?= g++
OPT ?= -O2
WARN := -Wall -Wextra -Werror -Wshadow -Wconversion -Wno-sign-conversion -Wnon-virtual-dtor -Woverloaded-virtual
# With sanitizers the compiler loses track of what is initialized, in its own library too.
WARN += $(if $(SAN),-Wno-maybe-uninitialized) $(if $(findstring thread,$(SAN)),-Wno-tsan)
HARDEN := $(if $(SAN),-D_GLIBCXX_ASSERTIONS,-D_FORTIFY_SOURCE=2) -fstack-protector-strong -fcf-protection -fstack-clash-protection
CXXFLAGS += -std=c++23 $(OPT) -g1 $(WARN) $(HARDEN) -fno-exceptions -fno-rtti -fno-plt -ffunction-sections -fdata-sections \
            -I. $(if $(SAN),-fsanitize=$(SAN) -fno-sanitize=vptr -fno-omit-frame-pointer)
LDFLAGS += -Wl,--gc-sections -Wl,-z,relro,-z,now,-z,noexecstack,-z,separate-code
# Static, so that a jail holds one file; with sanitizers dynamic, because they need it.
STATIC := $(if $(SAN),-pie -fsanitize=$(SAN),-static-pie)
PIE := -fPIE

BASE_SRC := $(wildcard base/*.cc)
VIRTIO_SRC := $(wildcard virtio/*.cc virtio/*/*.cc)
VMM_SRC := $(wildcard vmm/*.cc vmm/*/*.cc vmm/boot/*/*.cc)
WISP_SRC := $(filter-out wisp/main.cc,$(wildcard wisp/*.cc))
HTTP_SRC := $(wildcard http/*.cc)
API_SRC := $(wildcard api/*.cc)
JAILER_SRC := $(filter-out jailer/main.cc jailer/runtime.cc,$(wildcard jailer/*.cc))
UNIT_SRC := $(filter-out tests/support/call_recorder.cc,$(wildcard tests/unit/*.cc tests/support/*.cc))
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

.PHONY: demo test check bench bench-picture install uninstall
demo:
	@demo/run

TESTED := programs bench-block-tools $(OUT)/unit-tests $(OUT)/api-server $(OUT)/tests/wisp-jailer-faults $(OUT)/tests/jail-probe guests fuzz-replay \
          $(OUT)/tests/call-recorder $(OUT)/policy-compiler bench-vsock-tools bench-net-tools $(OUT)/tests/net_probe \
          $(OUT)/tests/block_probe
ifeq ($(SAN),)
test: setup-build-kernel-rootfs-lab-test
	@$(MAKE) --no-print-directory -j$(shell nproc) $(TESTED)
	@$(MAKE) --no-print-directory kernel
	@$(MAKE) --no-print-directory rootfs
	@tests/run $(TIERS)
else
# A sanitizer's run time makes system calls of its own, which no policy of ours allows. Threads of a VM are not joined: the process ends.
test: setup-build-test
	@$(MAKE) --no-print-directory -j$(shell nproc) $(OUT)/wisp $(OUT)/unit-tests fuzz-replay guests bench-net-tools bench-vsock-tools
	@WISP_BUILD=$(abspath $(OUT)) WISP_GUESTS=$(abspath $(BUILD))/guests WISP_FLAGS=--no-seccomp WISP_UNIT='~[filters]' \
	    TSAN_OPTIONS=report_thread_leaks=0 tests/run $(or $(TIERS),unit fuzz guest)
endif

check: setup-build-check
	@/usr/bin/python3 -B tests/check.py $(PART)

bench: setup-build-kernel-rootfs-lab-test
	@$(MAKE) --no-print-directory -j$(shell nproc) programs guests $(BUILD)/bench/spawn_timer $(BUILD)/bench/first_line $(BUILD)/bench/api_client bench-block-tools bench-vsock-tools bench-net-tools \
	    $(BUILD)/bench/jail_payload $(OUT)/tests/call-recorder
	@$(MAKE) --no-print-directory kernel
	@$(MAKE) --no-print-directory rootfs
	@/usr/bin/python3 -B bench/$(or $(BENCH),start).py

# A picture of what the last benchmarks wrote: $(BUILD)/bench/benchmarks.svg.
bench-picture:
	@/usr/bin/python3 -B bench/picture.py

# The kernel and the images are installed only where they are built: `make kernel rootfs`.
PREFIX ?= /usr/local
PROGRAMS := wisp wisp-jailer
IMAGES := kernel/vmlinux kernel/bzImage rootfs.ext4 initrd.cpio.gz
install: programs
	@install -d $(DESTDIR)$(PREFIX)/bin
	@install -m 755 $(patsubst %,$(OUT)/%,$(PROGRAMS)) $(DESTDIR)$(PREFIX)/bin
	@for image in $(wildcard $(patsubst %,$(BUILD)/%,$(IMAGES))); do \
	    install -D -m 644 "$$image" "$(DESTDIR)$(PREFIX)/share/wisp/$${image##*/}" || exit 1; done
	@echo "installed in $(DESTDIR)$(PREFIX): $(PROGRAMS) $(notdir $(wildcard $(patsubst %,$(BUILD)/%,$(IMAGES))))"
uninstall:
	@rm -f $(patsubst %,$(DESTDIR)$(PREFIX)/bin/%,$(PROGRAMS)) $(patsubst %,$(DESTDIR)$(PREFIX)/share/wisp/%,$(notdir $(IMAGES)))
	@rmdir $(DESTDIR)$(PREFIX)/share/wisp 2>/dev/null || true

$(OUT)/wisp: $(call objects,wisp/main.cc $(WISP_SRC) $(VMM_SRC) $(API_SRC) $(HTTP_SRC) $(VIRTIO_SRC) $(BASE_SRC))
	@echo "  link     $@"
	@$(CXX) $(CXXFLAGS) $(STATIC) $(LDFLAGS) -o $@ $^ -l:liburing.a

# Only the parts of base that the jailer uses: it starts once for each microVM, and pays for every page it touches.
JAIL_SRC := jailer/runtime.cc $(JAILER_SRC) base/check.cc base/fd.cc base/result.cc
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

# System call policies become BPF when Wisp is built: vmm/policy/compiler.
$(OUT)/policy-compiler: vmm/policy/compiler/main.cc $(wildcard vmm/policy/*.h) Makefile
	@mkdir -p $(@D)
	@echo "  c++      $<"
	@$(CXX) -std=c++23 -O1 -I. -Wall -Wextra -Werror -o $@ $< -lseccomp
$(OUT)/generated/policy_filters.inc: $(OUT)/policy-compiler
	@mkdir -p $(@D)
	@$< > $@
$(OUT)/obj/vmm/policy/filter.o: CXXFLAGS += -I$(OUT)/generated
$(OUT)/obj/vmm/policy/filter.o: $(OUT)/generated/policy_filters.inc

# What the jailer's tests put into a jail.
$(OUT)/tests/jail-probe: tests/jailer/probe.cc Makefile
	@mkdir -p $(@D)
	@$(CXX) -std=c++23 -O1 -Wall -Wextra -Werror -static -o $@ $<

# What Linux guests need that busybox has not: to be talked to by UDP, to wear out a disk and know what must be on it.
$(OUT)/tests/%_probe: tests/linux/%_probe.cc Makefile
	@mkdir -p $(@D)
	@$(CXX) -std=c++23 -O1 -Wall -Wextra -Werror -static -o $@ $<

# Needs root, or runs in the lab: there on hosts of each kind of cgroup.
.PHONY: jailer-tests
jailer-tests: $(OUT)/wisp-jailer $(OUT)/tests/wisp-jailer-faults $(OUT)/tests/jail-probe
	@/usr/bin/python3 -m pytest -q -p no:cacheprovider tests/jailer

# Catch2 reports a failed check by an exception, so the tests, and they alone, are built with them.
UNIT_FLAGS := -fexceptions -frtti -Wno-conversion -Wno-shadow
$(OUT)/obj/tests/%.o: CXXFLAGS += $(UNIT_FLAGS)
$(OUT)/unit-tests: $(call objects,$(UNIT_SRC) $(WISP_SRC) $(VMM_SRC) $(API_SRC) $(HTTP_SRC) $(JAILER_SRC) $(VIRTIO_SRC) $(BASE_SRC))
	@echo "  link     $@"
	@$(CXX) $(CXXFLAGS) -pie -o $@ $^ -l:liburing.a -lseccomp

.PHONY: unit
unit: $(OUT)/unit-tests
	@$(OUT)/unit-tests $(if $(SAN),'~[filters]')

# The API with a machine that only takes notes, for the tests of the API.
$(OUT)/api-server: $(call objects,tests/api/api_server.cc $(WISP_SRC) $(VMM_SRC) $(API_SRC) $(HTTP_SRC) $(VIRTIO_SRC) $(BASE_SRC))
	@echo "  link     $@"
	@$(CXX) $(CXXFLAGS) -pie -o $@ $^ -l:liburing.a

# Records which system calls a process makes, thread by thread, and which rule of the policies allows each.
$(OUT)/tests/call-recorder: tests/support/call_recorder.cc $(call objects,vmm/policy/filter.cc base/result.cc)
	@mkdir -p $(@D)
	@$(CXX) -std=c++23 -O1 -I. -Wall -Wextra -Werror $(if $(SAN),-fsanitize=$(SAN)) -o $@ $^

# Fuzz targets: tests/fuzz/NAME.cc. fuzz-replay builds each to run its corpus, with the usual compiler; `make fuzz` builds one with
# clang and libFuzzer, address and undefined sanitizers, and lets it search.
FUZZ_TARGETS := $(patsubst tests/fuzz/%.cc,%,$(filter-out tests/fuzz/replay.cc,$(wildcard tests/fuzz/*.cc)))
FUZZED := $(call objects,tests/support/fake_tap.cc tests/support/fake_block_io.cc $(VMM_SRC) $(API_SRC) $(HTTP_SRC) $(VIRTIO_SRC) $(BASE_SRC))
SECONDS ?= 60
.PHONY: fuzz fuzz-replay
fuzz-replay: $(patsubst %,$(OUT)/fuzz/%,$(FUZZ_TARGETS))
$(OUT)/fuzz/%: $(OUT)/obj/tests/fuzz/%.o $(OUT)/obj/tests/fuzz/replay.o $(FUZZED)
	@mkdir -p $(@D)
	@echo "  link     $@"
	@$(CXX) $(CXXFLAGS) -pie $(LDFLAGS) -o $@ $^ -l:liburing.a
FUZZ_SAN := fuzzer-no-link$(comma)address$(comma)undefined
FUZZ_OUT := $(BUILD)/san-$(subst $(comma),-,$(FUZZ_SAN))
$(OUT)/libfuzzer/%: $(OUT)/obj/tests/fuzz/%.o $(FUZZED)
	@mkdir -p $(@D)
	@echo "  link     $@"
	@$(CXX) $(CXXFLAGS) -fsanitize=fuzzer -pie -o $@ $^ -l:liburing.a
fuzz: setup-build-fuzz
	@test -n "$(filter $(FUZZ),$(FUZZ_TARGETS))" || { echo "make: FUZZ=one of: $(FUZZ_TARGETS)" >&2; exit 1; }
	@$(MAKE) --no-print-directory -j$(shell nproc) CXX=clang++-19 WARN=-w SAN=$(FUZZ_SAN) $(FUZZ_OUT)/libfuzzer/$(FUZZ)
	@mkdir -p $(BUILD)/fuzz-found/$(FUZZ)
	@cd $(BUILD)/fuzz-found/$(FUZZ) && $(abspath $(FUZZ_OUT))/libfuzzer/$(FUZZ) -max_total_time=$(SECONDS) -timeout=10 -rss_limit_mb=2048 \
	    -print_final_stats=1 . $(CURDIR)/tests/fuzz/corpus/$(FUZZ)

# Tiny guests: a few hundred instructions each, without a kernel, and those in C that run in ring 3.
GUESTS := $(patsubst tests/guest/asm/%.S,$(BUILD)/guests/%,$(wildcard tests/guest/asm/*.S)) \
          $(patsubst tests/guest/hostile/%.c,$(BUILD)/guests/%,$(wildcard tests/guest/hostile/*.c))
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

# The host's side of the benchmarks.
$(patsubst %,$(BUILD)/bench/%,api_client first_line net_peer spawn_timer tsc_khz vsock_peer): $(BUILD)/bench/%: bench/%.cc Makefile
	@mkdir -p $(@D)
	@$(CXX) -std=c++23 -O2 -Wall -Wextra -Werror -static -o $@ $<

# Guests in C: freestanding programs that drive devices from ring 3. The compiler must not use SSE, which no code
# switches on, nor call memset from within memset.
GUEST_PARTS := bench/guest/start.S bench/guest/runtime.c bench/guest/virtio.c
define link_guest
	@mkdir -p $(@D)
	@$(CC) -std=gnu2x -O2 -Wall -Wextra -Werror -ffreestanding -fno-stack-protector -fno-tree-loop-distribute-patterns \
	    -fcf-protection=none -fno-pic -mno-sse -mcmodel=large -nostdlib -static -no-pie -I. -Wl,-T,bench/guest/guest.ld \
	    -Wl,--build-id=none -Wl,--no-warn-rwx-segments -o $@ $(filter %.c %.S,$^)
endef
$(BUILD)/bench/%_guest: bench/guest/%.c $(GUEST_PARTS) $(wildcard bench/guest/*.h) bench/guest/guest.ld
	$(link_guest)
$(BUILD)/guests/%: tests/guest/hostile/%.c $(GUEST_PARTS) $(wildcard bench/guest/*.h tests/guest/hostile/*.h) bench/guest/guest.ld
	$(link_guest)

.PHONY: bench-block-tools bench-net-tools bench-vsock-tools
bench-block-tools: $(BUILD)/bench/tsc_khz $(BUILD)/bench/block_guest
bench-net-tools: $(BUILD)/bench/tsc_khz $(BUILD)/bench/net_guest $(BUILD)/bench/net_peer
bench-vsock-tools: $(BUILD)/bench/tsc_khz $(BUILD)/bench/vsock_guest $(BUILD)/bench/vsock_peer

# What runs once, or once a request, is compiled for size: hosts map a program in large pieces, so all of it is resident.
$(OUT)/obj/api/%.o $(OUT)/obj/http/%.o $(OUT)/obj/vmm/config/%.o $(OUT)/obj/vmm/mmds/%.o: OPT := -Os
$(OUT)/obj/wisp/%.o $(OUT)/obj/vmm/metrics/%.o $(OUT)/obj/vmm/controller.o $(OUT)/obj/vmm/policy/seccomp_file.o $(OUT)/obj/base/record.o: OPT := -Os

$(OUT)/obj/%.o: %.cc Makefile
	@mkdir -p $(@D)
	@echo "  c++      $<"
	@$(CXX) $(CXXFLAGS) $(PIE) -MMD -MP -c -o $@ $<

-include $(shell find $(OUT)/obj -name '*.d' 2>/dev/null)
