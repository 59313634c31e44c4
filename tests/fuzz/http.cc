// SPDX-License-Identifier: Apache-2.0
//
// What a client or a guest sends, in pieces of a size that the first byte decides. However it is cut, it means the
// same.
#include <string>

#include "base/limits.h"
#include "http/request_reader.h"
#include "tests/fuzz/fuzz.h"

using namespace wisp;
using http::RequestReader;

namespace {

constexpr size_t kMaxBody = 1000;

/// What was read, in words.
std::string read_all(std::string_view text, size_t piece) {
    RequestReader reader({limits::kHttpRequestLine, limits::kHttpHead, kMaxBody});
    std::string said;
    while (!text.empty()) {
        std::string_view bytes = text.substr(0, piece);
        text.remove_prefix(bytes.size());
        while (!bytes.empty()) {
            const size_t before = bytes.size();
            const auto step = reader.read(bytes);
            CHECK(bytes.size() <= before);
            if (step == RequestReader::Step::kRefused) return said + reader.refusal().reason;
            if (step == RequestReader::Step::kMore) {
                CHECK(bytes.empty());
                break;
            }
            if (step == RequestReader::Step::kRequest) {
                const http::Request request = reader.take_request();
                CHECK(request.body.size() <= kMaxBody);
                CHECK(request.headers.size() <= limits::kHttpHead);
                said += "[" + request.path + "|" + request.headers + "|" + request.body + "]";
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
