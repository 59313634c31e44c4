// SPDX-License-Identifier: Apache-2.0
#include "vmm/devices/pit.h"

#include "base/log.h"

namespace wisp {

template <class Change>
void LazyPit::with_state(Change change) {
    std::unique_lock lock(mutex_);
    if (refused_) return;
    Result<void> done;
    if (!created_) done = vm_.create_pit();
    if (done) {
        created_ = true;
        if (auto state = vm_.pit()) {
            change(*state);
            done = vm_.set_pit(*state);
        }
    }
    refused_ = !done;  // once: a further attempt would only build the same error on a vCPU thread
    lock.unlock();
    if (!done) LOG_WARNING("the guest uses the i8254 timer, and the host gives none: %s", done.error().message.c_str());
}

void LazyPit::Counters::handle_read(uint64_t, std::span<std::byte> data) {
    owner_.with_state([](kvm_pit_state2&) {});
    data[0] = std::byte{0};  // a counter that is not programmed yet
}

void LazyPit::Counters::handle_write(uint64_t offset, std::span<const std::byte> data) {
    const auto value = std::to_integer<uint8_t>(data[0]);
    owner_.with_state([=](kvm_pit_state2& state) {
        constexpr uint64_t kControl = 3;
        constexpr unsigned kReadBack = 3, kLatch = 0;
        const unsigned channel = value >> 6, access = (value >> 4) & 3;
        // Only a control word that programs a channel has an effect. Latches and counts of an unprogrammed timer have
        // none.
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
