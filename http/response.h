// SPDX-License-Identifier: Apache-2.0
//
// An HTTP/1.1 response and its bytes, as Firecracker's server writes them.
#pragma once

#include <cstdint>
#include <string>

namespace wisp::http {

struct Response {
    int status = 204;
    std::string body = {};
    const char* content_type = "application/json";
    std::string headers = {};  ///< further header lines, each with "\r\n" at its end
};

/// What becomes of the connection after a response.
enum class Connection : uint8_t { kKeepAlive, kClose };

/// The bytes of a response. The status line has a blank after the code and no reason phrase.
std::string serialize(const Response& response, Connection connection);

}  // namespace wisp::http
