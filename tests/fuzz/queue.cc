// SPDX-License-Identifier: Apache-2.0
//
// A virtqueue wherever the driver puts it, in memory whose every byte is the input's, served until it is empty or
// broken.
#include "virtio/queue.h"

#include <array>
#include <vector>

#include "tests/fuzz/fuzz.h"

using namespace wisp;
using namespace wisp::virtio;

namespace {

constexpr uint64_t kMemory = 256 << 10;
constexpr unsigned kMostChains = 2000;

template <class Slices>
void check_in_memory(const GuestMemory& memory, const Slices& slices) {
    const auto& region = memory.regions()[0];
    for (const GuestSlice& slice : slices) {
        const auto* const start = static_cast<const std::byte*>(slice.host_address());
        CHECK(start >= region.host && slice.as_iovec().iov_len <= region.size &&
              start + slice.as_iovec().iov_len <= region.host + region.size);
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    static const GuestMemory memory = fuzz::guest_memory(kMemory);
    fuzz::Input input(data, size);
    QueueState state;
    state.size = input.take<uint16_t>();
    state.descriptors.value = input.take<uint64_t>();
    state.available.value = input.take<uint64_t>();
    state.used.value = input.take<uint64_t>();
    state.next_available = input.take<uint16_t>();
    state.next_used = input.take<uint16_t>();
    const auto features = input.take<uint64_t>();
    std::byte* const host = fuzz::host_bytes(memory);
    memset(host, 0, kMemory);
    const auto content = input.bytes(kMemory);
    if (!content.empty()) memcpy(host, content.data(), content.size());

    auto queue = Queue::create(memory, state, features, limits::kMaxQueueSize);
    if (!queue) return 0;
    std::array<GuestSlice, limits::kMaxQueueSize> storage;
    for (unsigned i = 0; i < kMostChains; ++i) {
        Chain chain;
        const Queue::Pop popped = queue->pop(chain, storage);
        if (popped != Queue::Pop::kChain) {
            CHECK((popped == Queue::Pop::kBroken) == (queue->fault() != nullptr));
            if (queue->enable_notifications() && popped == Queue::Pop::kEmpty) continue;
            break;
        }
        CHECK(chain.head() < state.size);
        CHECK(!chain.fault() || (chain.readable().empty() && chain.writable().empty()));
        check_in_memory(memory, chain.readable());
        check_in_memory(memory, chain.writable());
        if (i % 3 == 0) queue->disable_notifications();
        queue->push(std::move(chain), i);  // may write over descriptors and rings: the guest put buffers there
        if (i % 2 == 0) (void)queue->publish();
    }
    (void)queue->publish();
    return 0;
}
