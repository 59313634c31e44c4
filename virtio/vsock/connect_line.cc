// SPDX-License-Identifier: Apache-2.0
#include "virtio/vsock/connect_line.h"

#include <algorithm>

#include "base/limits.h"

namespace wisp::virtio {

namespace {

constexpr std::string_view kKeyword = "connect ";

bool starts_as_keyword(std::string_view bytes) {
    const size_t compared = std::min(bytes.size(), kKeyword.size());
    for (size_t i = 0; i < compared; ++i) {
        const char letter = bytes[i] >= 'A' && bytes[i] <= 'Z' ? static_cast<char>(bytes[i] + ('a' - 'A')) : bytes[i];
        if (letter != kKeyword[i]) return false;
    }
    return true;
}

}  // namespace

VsockConnectLine parse_vsock_connect_line(std::string_view bytes) {
    using State = VsockConnectLine::State;
    if (!starts_as_keyword(bytes)) return {State::kWrong};
    uint64_t port = 0;
    for (size_t i = kKeyword.size(); i < bytes.size(); ++i) {
        const char letter = bytes[i];
        if (i >= limits::kVsockConnectLine) return {State::kWrong};
        if (letter == '\n' && i > kKeyword.size()) return {State::kComplete, static_cast<uint32_t>(port), i + 1};
        if (letter < '0' || letter > '9') return {State::kWrong};
        port = port * 10 + static_cast<uint64_t>(letter - '0');
        if (port > UINT32_MAX) return {State::kWrong};
    }
    return {bytes.size() < limits::kVsockConnectLine ? State::kIncomplete : State::kWrong};
}

}  // namespace wisp::virtio
