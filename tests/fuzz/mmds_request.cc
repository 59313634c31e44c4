// SPDX-License-Identifier: Apache-2.0
//
// HTTP requests of a guest to the metadata service, from their bytes to the answers.
#include "base/limits.h"
#include "tests/fuzz/fuzz.h"
#include "vmm/config/json.h"
#include "vmm/mmds/service.h"

using namespace wisp;
using namespace wisp::mmds;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    DataStore store{10'000};
    const auto document =
        config::parse_json_strict(R"({"latest":{"meta-data":{"ami":"x","list":[1,null],"tags":{"a/b":"b"}}}})");
    CHECK(document && store.put(*document));
    fuzz::Input input(data, size);
    const auto flags = input.take<uint8_t>();
    Service service{store, TokenAuthority({1, 2})};
    config::MmdsConfig config;
    config.version = flags & 1 ? config::MmdsVersion::kV2 : config::MmdsVersion::kV1;
    config.imds_compat = flags & 2;
    service.configure(config);
    http::RequestReader reader({limits::kMmdsReceiveBuffer, limits::kMmdsReceiveBuffer, limits::kMmdsBody});
    std::string_view text = input.text();
    for (;;) {
        const auto step = reader.read(text);
        if (step == http::RequestReader::Step::kRefused)
            CHECK(Service::refuse(reader.refusal()).starts_with("HTTP/1.1 400 "));
        if (step != http::RequestReader::Step::kRequest) break;
        CHECK(service.answer(reader.take_request(), 1'000'000).starts_with("HTTP/1.1 "));
    }
    return 0;
}
