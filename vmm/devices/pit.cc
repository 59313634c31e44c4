// SPDX-License-Identifier: Apache-2.0
#include "vmm/devices/pit.h"

#include "base/log.h"

namespace wisp {

template <class Change>
void LazyPit::with_state(Change change) {
    const std::lock_guard lock(mutex_);
    if (!created_) {
        if (auto made = vm_.create_pit(); !made) {
            LOG_LIMITED("the guest wants the i8254 timer, and the host gives none: %s", made.error().message.c_str());
            return;
        }
        created_ = true;
    }
    auto state = vm_.pit();
    if (!state) return;
    change(*state);
    if (auto set = vm_.set_pit(*state); !set) LOG_LIMITED("cannot set up the i8254: %s", set.error().message.c_str());
}

void LazyPit::Counters::handle_read(uint64_t, std::span<std::byte> data) {
    owner_.with_state([](kvm_pit_state2&) {});
    data[0] = std::byte{0};  // a counter that nobody has programmed yet
}

void LazyPit::Counters::handle_write(uint64_t offset, std::span<const std::byte> data) {
    const auto value = std::to_integer<uint8_t>(data[0]);
    owner_.with_state([=](kvm_pit_state2& state) {
        constexpr uint64_t kControl = 3;
        constexpr unsigned kReadBack = 3, kLatch = 0;
        const unsigned channel = value >> 6, access = (value >> 4) & 3;
        // Only a control word that programs a channel changes anything: latches and counts of an unprogrammed timer do
        // not.
        if (offset != kControl || channel == kReadBack || access == kLatch) return;
        kvm_pit_channel_state& chosen = state.channels[channel];
        chosen.rw_mode = chosen.read_state = chosen.write_state = static_cast<uint8_t>(access);
        const unsigned mode = (value >> 1) & 7;
        chosen.mode = static_cast<uint8_t>(mode > 5 ? mode - 4 : mode);  // modes 6 and 7 are 2 and 3
        chosen.bcd = value & 1;
    });
}

void LazyPit::Speaker::handle_read(uint64_t, std::span<std::byte> data) {
    owner_.with_state([](kvm_pit_state2&) {});
    data[0] = std::byte{0};
}

void LazyPit::Speaker::handle_write(uint64_t, std::span<const std::byte> data) {
    const auto value = std::to_integer<uint8_t>(data[0]);
    owner_.with_state([=](kvm_pit_state2& state) { state.channels[2].gate = value & 1; });
}

}  // namespace wisp
