// SPDX-License-Identifier: Apache-2.0
//
// What a client sends, in pieces that the first byte decides. However it is cut, it means the same.
#include <string>

#include "api/request_reader.h"
#include "tests/fuzz/fuzz.h"

using namespace wisp;
using api::RequestReader;

namespace {

constexpr size_t kMaxBody = 1000;

/// What was read, in words.
std::string read_all(std::string_view text, size_t piece) {
    RequestReader reader(kMaxBody);
    std::string said;
    while (!text.empty()) {
        std::string_view bytes = text.substr(0, piece);
        text.remove_prefix(bytes.size());
        while (!bytes.empty()) {
            const size_t before = bytes.size();
            const auto step = reader.read(bytes);
            CHECK(bytes.size() <= before);
            if (step == RequestReader::Step::kError) return said + "error";
            if (step == RequestReader::Step::kMore) {
                CHECK(bytes.empty());
                break;
            }
            if (step == RequestReader::Step::kRequest) {
                const api::Request request = reader.take_request();
                CHECK(request.body.size() <= kMaxBody);
                said += "[" + request.body + "]";
            }
            CHECK(bytes.size() < before || step == RequestReader::Step::kContinue ||
                  step == RequestReader::Step::kRequest);
        }
    }
    return said;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    fuzz::Input input(data, size);
    const size_t piece = input.take<uint8_t>() + 1u;
    const std::string whole = read_all(input.text(), SIZE_MAX);
    CHECK(read_all(input.text(), piece) == whole);
    return 0;
}
