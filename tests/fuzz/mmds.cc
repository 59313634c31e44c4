// SPDX-License-Identifier: Apache-2.0
//
// Frames from a guest to the metadata service: each a length of two bytes, a delay of one, and the frame.
#include "tests/fuzz/fuzz.h"
#include "vmm/config/json.h"
#include "vmm/mmds/tcp_endpoint.h"

using namespace wisp;
using namespace wisp::mmds;

namespace {

constexpr uint64_t kStart_ms = 100'000;
constexpr unsigned kMostAnswers = 64;

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    DataStore store{10'000};
    const auto document = config::parse_json_strict(R"({"latest":{"meta-data":{"ami":"x","n":5,"tags":{"a":"b"}}}})");
    CHECK(document && store.put(*document));
    Service service{store, TokenAuthority({1, 2})};
    fuzz::Input input(data, size);
    config::MmdsConfig config;
    const auto flags = input.take<uint8_t>();
    config.version = flags & 1 ? config::MmdsVersion::kV2 : config::MmdsVersion::kV1;
    config.imds_compat = flags & 2;
    service.configure(config);
    TcpEndpoint endpoint(service, kMmdsAddress);
    uint64_t now_ms = kStart_ms;
    uint8_t frame[TcpEndpoint::kMaxFrame];
    while (!input.empty()) {
        const auto length = input.take<uint16_t>();
        now_ms += input.take<uint8_t>() * 64u;
        endpoint.receive(input.bytes(length), now_ms);
        CHECK(endpoint.connections() <= limits::kMmdsConnections);
        for (unsigned i = 0; i < kMostAnswers; ++i) {
            const size_t sent = endpoint.transmit(frame, now_ms);
            CHECK(sent <= sizeof frame);
            if (sent == 0) break;
            CHECK(i + 1 < kMostAnswers);  // one frame in never makes endless frames out
        }
    }
    return 0;
}
