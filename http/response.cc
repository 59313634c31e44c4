// SPDX-License-Identifier: Apache-2.0
#include "http/response.h"

#include "base/result.h"

namespace wisp::http {

std::string serialize(const Response& response, Connection connection) {
    std::string out = format("HTTP/1.1 %d \r\nServer: Firecracker API\r\nConnection: %s\r\n", response.status,
                             connection == Connection::kKeepAlive ? "keep-alive" : "close");
    out += response.headers;
    // RFC 9110, section 8.6: neither an interim response nor 204 has a length.
    const bool has_body = response.status >= 200 && response.status != 204;
    if (has_body)
        out += format("Content-Type: %s\r\nContent-Length: %zu\r\n", response.content_type, response.body.size());
    out += "\r\n";
    if (has_body) out += response.body;
    return out;
}

}  // namespace wisp::http
