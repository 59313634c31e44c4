// SPDX-License-Identifier: Apache-2.0
#include "base/guest_memory.h"

#include <catch2/catch.hpp>

#include <array>

#include "base/endian.h"

using namespace wisp;

namespace {

GuestMemory two_regions() {
    const GuestMemory::Range ranges[] = {{{0}, 0x10000}, {{0x100000}, 0x20000}};
    auto memory = GuestMemory::create(ranges, MemoryBacking::anonymous());
    REQUIRE(memory.has_value());
    return *std::move(memory);
}

}  // namespace

TEST_CASE("guest memory: a range must lie in one region") {
    const GuestMemory memory = two_regions();
    CHECK(memory.slice({0}, 0x10000));
    CHECK(memory.slice({0xffff}, 1));
    CHECK_FALSE(memory.slice({0xffff}, 2));
    CHECK_FALSE(memory.slice({0x10000}, 1));
    CHECK_FALSE(memory.slice({0xfffff}, 1));
    CHECK(memory.slice({0x100000}, 0x20000));
    CHECK_FALSE(memory.slice({0x100000}, 0x20001));
    CHECK_FALSE(memory.slice({0x120000}, 1));
}

TEST_CASE("guest memory: address arithmetic cannot wrap") {
    const GuestMemory memory = two_regions();
    CHECK_FALSE(memory.slice({0x1000}, UINT64_MAX));
    CHECK_FALSE(memory.slice({UINT64_MAX}, 1));
    CHECK_FALSE(memory.slice({UINT64_MAX}, UINT64_MAX));
    CHECK_FALSE(GuestAddress{UINT64_MAX}.plus(1));
    CHECK(GuestAddress{UINT64_MAX}.plus(0)->value == UINT64_MAX);
}

TEST_CASE("guest memory: what is stored is loaded, at any alignment") {
    const GuestMemory memory = two_regions();
    for (const uint64_t at : {0x100ull, 0x101ull, 0x103ull, 0xfff8ull, 0x11fff8ull}) {
        REQUIRE(memory.store(GuestAddress{at}, le64(0x1122334455667788)));
        CHECK(memory.load<le64>({at})->value() == 0x1122334455667788);
        CHECK(memory.load<le16>({at})->value() == 0x7788);
    }
    CHECK_FALSE(memory.store(GuestAddress{0xfff9}, le64(1)));
    CHECK_FALSE(memory.load<le64>({0xfff9}));
}

TEST_CASE("guest memory: copies of every size carry every byte") {
    const GuestMemory memory = two_regions();
    std::array<std::byte, 67> in{}, out{};
    for (size_t i = 0; i < in.size(); ++i) in[i] = static_cast<std::byte>(i * 7 + 1);
    for (size_t size = 0; size <= in.size(); ++size) {
        out = {};
        REQUIRE(memory.write({0x201}, std::span(in).first(size)));
        REQUIRE(memory.read({0x201}, std::span(out).first(size)));
        CHECK(std::equal(in.begin(), in.begin() + static_cast<long>(size), out.begin()));
    }
}

TEST_CASE("guest slice: parts are cut to what there is") {
    const GuestMemory memory = two_regions();
    const GuestSlice slice = *memory.slice({0x1000}, 100);
    CHECK(slice.part(10).size() == 90);
    CHECK(slice.part(10, 5).size() == 5);
    CHECK(slice.part(100).empty());
    CHECK(slice.part(1000, 1).empty());
}
