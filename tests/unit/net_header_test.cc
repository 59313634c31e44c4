// SPDX-License-Identifier: Apache-2.0
#include "virtio/net/header.h"

#include <catch2/catch.hpp>
#include <random>

using namespace wisp::virtio;

namespace {

constexpr uint64_t bits(std::initializer_list<unsigned> features) {
    uint64_t all = 0;
    for (const unsigned bit : features) all |= net_feature(bit);
    return all;
}

}  // namespace

TEST_CASE("net header: each kind of segmentation needs its own feature") {
    struct Kind {
        uint8_t type;
        unsigned host, guest;
    };
    const Kind kinds[] = {{VIRTIO_NET_HDR_GSO_TCPV4, VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_GUEST_TSO4},
                          {VIRTIO_NET_HDR_GSO_TCPV6, VIRTIO_NET_F_HOST_TSO6, VIRTIO_NET_F_GUEST_TSO6},
                          {VIRTIO_NET_HDR_GSO_UDP, VIRTIO_NET_F_HOST_UFO, VIRTIO_NET_F_GUEST_UFO},
                          {VIRTIO_NET_HDR_GSO_UDP_L4, VIRTIO_NET_F_HOST_USO, VIRTIO_NET_F_GUEST_USO6}};
    for (const Kind& kind : kinds) {
        NetHeader header{};
        header.gso_type = kind.type;
        header.gso_size = 1448;
        CHECK(check_sent_header(header, 3000, net_feature(kind.host)) == nullptr);
        CHECK(check_sent_header(header, 3000, ~net_feature(kind.host)) != nullptr);
        CHECK(can_receive(header, net_feature(kind.guest)));
        CHECK(!can_receive(header, net_feature(kind.host)));
    }
}

TEST_CASE("net header: a checksum has to lie within the frame") {
    for (const unsigned start : {0u, 34u, 98u, 99u, 100u, 0xffffu})
        for (const unsigned offset : {0u, 16u, 64u, 65u, 0xffffu}) {
            NetHeader header{};
            header.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
            header.csum_start = static_cast<uint16_t>(start);
            header.csum_offset = static_cast<uint16_t>(offset);
            const bool inside = start + offset + 2 <= 100;
            CHECK((check_sent_header(header, 100, net_feature(VIRTIO_NET_F_CSUM)) == nullptr) == inside);
            CHECK(check_sent_header(header, 100, 0) != nullptr);
        }
}

TEST_CASE("net header: what passes has no flag and no length that the host need not trust") {
    std::mt19937 random(1);
    unsigned passed = 0;
    for (int i = 0; i < 200'000; ++i) {
        NetHeader header{};
        auto* bytes = reinterpret_cast<uint8_t*>(&header);
        for (size_t at = 0; at < sizeof header; ++at)
            bytes[at] = static_cast<uint8_t>(random() % 4 ? random() % 8 : random());
        const uint64_t size = 1 + random() % 3000;
        const uint64_t features = random() % 2 ? kNetFeatures | kNetUsoFeatures : random();
        if (check_sent_header(header, size, features)) continue;
        ++passed;
        REQUIRE(size >= ETH_HLEN);
        REQUIRE((header.flags & ~VIRTIO_NET_HDR_F_NEEDS_CSUM) == 0);
        REQUIRE(header.num_buffers == 0);
        REQUIRE(header.hdr_len <= size);
        if (header.flags) REQUIRE(header.csum_start + header.csum_offset + 2ul <= size);
        if (header.gso_type != VIRTIO_NET_HDR_GSO_NONE) REQUIRE(header.gso_size != 0);
    }
    CHECK(passed > 1000);
}

TEST_CASE("net header: a tap leaves to the driver only what it said it can do") {
    CHECK(tap_offloads(0) == 0);
    CHECK(tap_offloads(~bits({VIRTIO_NET_F_GUEST_CSUM})) == 0);
    CHECK(tap_offloads(bits({VIRTIO_NET_F_GUEST_CSUM})) == TUN_F_CSUM);
    CHECK(tap_offloads(bits({VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_GUEST_TSO6})) == (TUN_F_CSUM | TUN_F_TSO6));
    CHECK(tap_offloads(bits({VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_GUEST_USO4})) == TUN_F_CSUM);
    CHECK(tap_offloads(~0ull) == (TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_UFO | TUN_F_USO4 | TUN_F_USO6));
}
