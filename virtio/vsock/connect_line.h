// SPDX-License-Identifier: Apache-2.0
//
// "CONNECT <port>\n": the line by which a host program says which port of the guest it wants (Firecracker's protocol;
// the keyword in any case, the port in decimal). Pure.
#pragma once

#include <cstdint>
#include <string_view>

namespace wisp::virtio {

struct VsockConnectLine {
    enum class State : uint8_t {
        kIncomplete,  ///< right so far; its end has not come
        kWrong,
        kComplete,
    } state;
    uint32_t port = 0;
    size_t size = 0;  ///< bytes of the line, with its end: what follows is data for the guest
};

/// Parses the bytes of the line that have come so far. A line that cannot become right is wrong before its end.
VsockConnectLine parse_vsock_connect_line(std::string_view bytes);

}  // namespace wisp::virtio
