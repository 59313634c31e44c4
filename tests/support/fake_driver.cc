// SPDX-License-Identifier: Apache-2.0
#include "tests/support/fake_driver.h"

#define VIRTIO_RING_NO_LEGACY
#include <linux/virtio_ring.h>

#include <array>

#include "base/check.h"
#include "base/endian.h"

namespace wisp::test {

GuestMemory make_memory() {
    const GuestMemory::Range ranges[] = {{{0}, 16 << 20}, {{0x1'0000'0000}, 1 << 20}};
    auto memory = GuestMemory::create(ranges, MemoryBacking::anonymous());
    CHECK(memory.has_value());
    return *std::move(memory);
}

// ---- ChainBuilder ----

ChainBuilder& ChainBuilder::readable(const void* bytes, size_t size) {
    const uint64_t address = driver_.allocate(size);
    CHECK(driver_.memory.write({address}, {static_cast<const std::byte*>(bytes), size}));
    return descriptor(address, static_cast<uint32_t>(size), 0);
}

ChainBuilder& ChainBuilder::readable(std::string_view bytes) {
    return readable(bytes.data(), bytes.size());
}

ChainBuilder& ChainBuilder::writable(uint32_t size) {
    const uint64_t address = driver_.allocate(size);
    const std::vector<std::byte> filling(size, std::byte{0xee});
    CHECK(driver_.memory.write({address}, filling));
    return descriptor(address, size, VRING_DESC_F_WRITE);
}

ChainBuilder& ChainBuilder::descriptor(uint64_t address, uint32_t length, uint16_t flags) {
    descriptors_.push_back({address, length, flags});
    return *this;
}

ChainBuilder& ChainBuilder::indirect() {
    indirect_from_ = descriptors_.size();
    return *this;
}

uint16_t ChainBuilder::submit() {
    const size_t direct = indirect_from_.value_or(descriptors_.size());
    std::vector<uint16_t> indices;
    for (size_t i = 0; i < direct + (indirect_from_ ? 1 : 0); ++i) indices.push_back(driver_.take_descriptor());
    for (size_t i = 0; i < direct; ++i) {
        const bool more = i + 1 < indices.size();
        const auto flags = static_cast<uint16_t>(descriptors_[i].flags | (more ? VRING_DESC_F_NEXT : 0));
        driver_.write_descriptor(indices[i], descriptors_[i].address, descriptors_[i].length, flags,
                                 more ? indices[i + 1] : 0);
    }
    if (indirect_from_) {
        const size_t entries = descriptors_.size() - direct;
        const uint64_t table = driver_.allocate(entries * sizeof(vring_desc));
        for (size_t i = 0; i < entries; ++i) {
            const Described& d = descriptors_[direct + i];
            const bool more = i + 1 < entries;
            const vring_desc entry{d.address, d.length, static_cast<uint16_t>(d.flags | (more ? VRING_DESC_F_NEXT : 0)),
                                   static_cast<uint16_t>(more ? i + 1 : 0)};
            CHECK(driver_.memory.store({table + i * sizeof entry}, entry));
        }
        driver_.write_descriptor(indices.back(), table, static_cast<uint32_t>(entries * sizeof(vring_desc)),
                                 VRING_DESC_F_INDIRECT, 0);
    }
    driver_.make_available(indices.front());
    return indices.front();
}

// ---- FakeDriver ----

FakeDriver::FakeDriver(const GuestMemory& guest_memory, uint16_t size, uint64_t base) : memory(guest_memory) {
    layout_.size = size;
    layout_.descriptors = {base};
    layout_.available = {base + 16ull * size};
    layout_.used = {(layout_.available.value + 6 + 2ull * size + 3) & ~3ull};
    heap_ = heap_start_ = (layout_.used.value + 6 + 8ull * size + 0xfff) & ~0xfffull;
}

uint64_t FakeDriver::allocate(uint64_t size) {
    const uint64_t address = heap_;
    heap_ += size;
    CHECK(heap_ <= memory.regions()[0].end());
    return address;
}

void FakeDriver::recycle() {
    heap_ = heap_start_;
    next_descriptor_ = 0;
}

void FakeDriver::restart() {
    recycle();
    used_seen_ = 0;
    set_available_index(0);
    CHECK(memory.store({layout_.used.value}, le32(0)));
}

uint16_t FakeDriver::take_descriptor() {
    return static_cast<uint16_t>(next_descriptor_++ & (layout_.size - 1));
}

void FakeDriver::write_descriptor(uint16_t index, uint64_t address, uint32_t length, uint16_t flags, uint16_t next) {
    CHECK(memory.store({layout_.descriptors.value + 16ull * index}, vring_desc{address, length, flags, next}));
}

void FakeDriver::make_available(uint16_t head) {
    const uint64_t slot = available_index_ & (layout_.size - 1u);
    CHECK(memory.store({layout_.available.value + 4 + 2 * slot}, le16(head)));
    set_available_index(static_cast<uint16_t>(available_index_ + 1));
}

void FakeDriver::set_available_index(uint16_t index) {
    available_index_ = index;
    CHECK(memory.store({layout_.available.value + 2}, le16(index)));
}

void FakeDriver::set_available_flags(uint16_t flags) {
    CHECK(memory.store({layout_.available.value}, le16(flags)));
}

void FakeDriver::set_used_event(uint16_t index) {
    CHECK(memory.store({layout_.available.value + 4 + 2ull * layout_.size}, le16(index)));
}

uint16_t FakeDriver::used_flags() const {
    return *memory.load<le16>(layout_.used);
}
uint16_t FakeDriver::used_index() const {
    return *memory.load<le16>({layout_.used.value + 2});
}
uint16_t FakeDriver::available_event() const {
    return *memory.load<le16>({layout_.used.value + 4 + 8ull * layout_.size});
}

std::optional<FakeDriver::Used> FakeDriver::used() {
    if (used_seen_ == used_index()) return std::nullopt;
    const uint64_t slot = used_seen_++ & (layout_.size - 1u);
    const uint64_t element = layout_.used.value + 4 + 8 * slot;
    return Used{static_cast<uint16_t>(*memory.load<le32>({element})), *memory.load<le32>({element + 4})};
}

std::string FakeDriver::bytes(uint64_t address, size_t size) const {
    std::string text(size, '\0');
    CHECK(memory.read({address}, std::as_writable_bytes(std::span(text))));
    return text;
}

}  // namespace wisp::test
