// SPDX-License-Identifier: Apache-2.0
//
// What the metadata service saves: its document, and of its connections enough to reset them.
#include <catch2/catch.hpp>

#include "vmm/config/json.h"
#include "vmm/mmds/data_store.h"
#include "vmm/mmds/tcp_endpoint.h"

using namespace wisp;
using namespace wisp::mmds;

namespace {

template <class T>
std::vector<std::byte> saved(const T& object) {
    RecordWriter writer;
    {
        const auto leaf = writer.leaf(T::kRecord);
        object.save(writer);
    }
    return writer.take();
}

std::vector<std::byte> mmds_leaf(bool has_data, std::string_view text) {
    RecordWriter writer;
    {
        const auto leaf = writer.leaf(DataStore::kRecord);
        writer.boolean(has_data);
        writer.text(text);
    }
    return writer.take();
}

Result<void> restore(DataStore& store, const std::vector<std::byte>& bytes) {
    auto reader = TRY(RecordReader::open(bytes, DataStore::kRecord));
    return store.restore(reader);
}

uint32_t get32(std::span<const uint8_t> frame, size_t at) {
    return static_cast<uint32_t>(frame[at]) << 24 | frame[at + 1] << 16 | frame[at + 2] << 8 | frame[at + 3];
}

/// A guest's SYN from 10.0.0.2:4000 with sequence number 0x01020304. The checksums are not looked at.
std::vector<uint8_t> syn() {
    return {6,    1,    0x23, 0x45, 0x67, 1, 2, 0, 0,  0, 0, 1, 8,    0,  // Ethernet
            0x45, 0,    0,    40,   0,    0, 0, 0, 64, 6, 0, 0, 10,   0,         0,    2, 169, 254, 169, 254,  // IPv4
            0x0f, 0xa0, 0,    80,   1,    2, 3, 4, 0,  0, 0, 0, 0x50, tcp::kSyn, 0x10, 0, 0,   0,   0,   0};   // TCP
}

}  // namespace

TEST_CASE("the metadata document comes back, and so does its absence", "[state]") {
    DataStore store(1000), other(1000);
    REQUIRE(other.put(*config::parse_json_strict(R"({"old":1})")));
    REQUIRE(restore(other, saved(store)).has_value());
    CHECK(other.to_json() == "{}");
    CHECK_FALSE(other.patch(*config::parse_json_strict(R"({"a":1})")).has_value());

    REQUIRE(store.put(*config::parse_json_strict(R"({"z":[1,-2.5,true,null],"a":{"b":"\u00e9\n"}})")));
    REQUIRE(restore(other, saved(store)).has_value());
    CHECK(other.to_json() == store.to_json());
    CHECK(saved(other) == saved(store));
}

TEST_CASE("a metadata document that is too long or no JSON is refused by name", "[state]") {
    DataStore store(10);
    CHECK(restore(store, mmds_leaf(true, R"({"a":"0123456789"})")).error().message ==
          "mmds_data.json: 18 bytes, at most 10 are allowed");
    CHECK(restore(store, mmds_leaf(true, R"({"a":)")).error().message.starts_with("mmds_data.json: "));
    CHECK(store.to_json() == "{}");
}

TEST_CASE("a connection to the metadata service is reset after a load, and a new one can be made", "[state]") {
    DataStore data(1000);
    Service service(data, TokenAuthority({1, 2}));
    TcpEndpoint before(service, kMmdsAddress), after_load(service, kMmdsAddress);
    uint8_t frame[TcpEndpoint::kMaxFrame];
    REQUIRE(before.receive(syn(), 1000));
    REQUIRE(before.transmit(frame, 1000) > 0);
    const uint32_t first_sequence = get32(frame, 38);
    REQUIRE(before.connections() == 1);

    const auto bytes = saved(before);
    auto reader = *RecordReader::open(bytes, TcpEndpoint::kRecord);
    REQUIRE(after_load.restore(reader, 5).has_value());
    CHECK(after_load.deadline_ms() <= 5);
    REQUIRE(after_load.transmit(frame, 5) == 54);
    CHECK(frame[47] == (tcp::kRst | tcp::kAck));
    CHECK((frame[36] << 8 | frame[37]) == 4000);
    CHECK(get32(frame, 38) == first_sequence + 1);
    CHECK(get32(frame, 42) == 0x01020305);
    CHECK(after_load.connections() == 0);
    CHECK(after_load.transmit(frame, 5) == 0);
    REQUIRE(after_load.receive(syn(), 6));
    REQUIRE(after_load.transmit(frame, 6) > 0);
    CHECK(frame[47] == (tcp::kSyn | tcp::kAck));
}

TEST_CASE("saved connections that are out of range are refused by name", "[state]") {
    DataStore data(1000);
    Service service(data, TokenAuthority({1, 2}));
    const auto refusal = [&](uint32_t count, uint16_t port) {
        RecordWriter writer;
        {
            const auto leaf = writer.leaf(TcpEndpoint::kRecord);
            writer.u32(1);
            writer.u32(count);
            writer.structure(config::MacAddress{});
            writer.structure(config::Ipv4Address{});
            writer.u16(port);
            writer.u64(0);
        }
        const auto bytes = writer.take();
        auto reader = *RecordReader::open(bytes, TcpEndpoint::kRecord);
        TcpEndpoint endpoint(service, kMmdsAddress);
        const auto got = endpoint.restore(reader, 0);
        return got ? "accepted" : got.error().message;
    };
    CHECK(refusal(1, 80) == "accepted");
    CHECK(refusal(2, 80) == "mmds_tcp.mac: 0 bytes, 6 are needed");
    CHECK(refusal(1025, 80) == "mmds_tcp.connections: 1025 is out of range, 0 to 1024");
    CHECK(refusal(1, 0) == "accepted");  // a guest may send from any port
}
