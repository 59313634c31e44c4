// SPDX-License-Identifier: Apache-2.0
#include "vmm/devices/pit.h"

#include "base/log.h"

namespace wisp {

namespace {

constexpr RecordType kRecord{"pit ", "pit", 1, Need::kRequired};
constexpr RecordType kState{"pits", "state", 1, Need::kRequired};
constexpr uint8_t kMostAccess = 4;  // KVM's RW_STATE_WORD1, the last of its states of a byte-wise access
constexpr uint8_t kMostMode = 5;

}  // namespace

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

// ---- state ----

Result<void> LazyPit::save(RecordWriter& writer) {
    const std::lock_guard lock(mutex_);
    kvm_pit_state2 state{};
    if (created_) state = TRY(vm_.pit());
    const auto group = writer.group(kRecord);
    if (created_) save_pit_state(writer, state);
    return {};
}

Result<void> LazyPit::restore(RecordReader& group) {
    RecordReader record = TRY(group.record(kRecord));
    const std::lock_guard lock(mutex_);
    if (TRY(record.count(kState, 1)) == 1) {
        const kvm_pit_state2 state = TRY(restore_pit_state(record));
        if (!created_) TRY(vm_.create_pit());
        created_ = true;
        TRY(vm_.set_pit(state));
    }
    return record.finish();
}

void save_pit_state(RecordWriter& writer, const kvm_pit_state2& state) {
    const auto scope = writer.leaf(kState);
    writer.u32(state.flags);
    for (const kvm_pit_channel_state& channel : state.channels) {
        writer.u32(channel.count);
        writer.u16(channel.latched_count);
        writer.u8(channel.count_latched);
        writer.u8(channel.status_latched);
        writer.u8(channel.status);
        writer.u8(channel.read_state);
        writer.u8(channel.write_state);
        writer.u8(channel.write_latch);
        writer.u8(channel.rw_mode);
        writer.u8(channel.mode);
        writer.u8(channel.bcd);
        writer.u8(channel.gate);
        writer.u64(static_cast<uint64_t>(channel.count_load_time));
    }
}

Result<kvm_pit_state2> restore_pit_state(RecordReader& group) {
    RecordReader record = TRY(group.record(kState));
    kvm_pit_state2 state{};
    state.flags = TRY(record.u32("flags", 0, KVM_PIT_FLAGS_HPET_LEGACY | KVM_PIT_FLAGS_SPEAKER_DATA_ON));
    for (kvm_pit_channel_state& channel : state.channels) {
        channel.count = TRY(record.u32("count", 0, 0x10000));
        channel.latched_count = TRY(record.u16("latched_count"));
        channel.count_latched = TRY(record.u8("count_latched", 0, kMostAccess));
        channel.status_latched = TRY(record.u8("status_latched", 0, 1));
        channel.status = TRY(record.u8("status"));
        channel.read_state = TRY(record.u8("read_state", 0, kMostAccess));
        channel.write_state = TRY(record.u8("write_state", 0, kMostAccess));
        channel.write_latch = TRY(record.u8("write_latch"));
        channel.rw_mode = TRY(record.u8("rw_mode", 0, kMostAccess));
        channel.mode = TRY(record.u8("mode", 0, kMostMode));
        channel.bcd = TRY(record.u8("bcd", 0, 1));
        channel.gate = TRY(record.u8("gate", 0, 1));
        channel.count_load_time = static_cast<int64_t>(TRY(record.u64("count_load_time")));
    }
    TRY(record.finish());
    return state;
}

}  // namespace wisp
