// SPDX-License-Identifier: Apache-2.0
//
// A request and an answer of the API, apart from how they travel.
#pragma once

#include <cstdint>
#include <string>

namespace wisp::api {

enum class Method : uint8_t { kGet, kPut, kPatch, kDelete, kOther };

/// "GET"
const char* to_string(Method method);

struct Request {
    Method method = Method::kOther;
    std::string path;  ///< as it was sent, without scheme and host
    std::string body;
    bool keep_alive = true;
};

struct Response {
    int status = 204;
    std::string body;         ///< JSON unless content_type says otherwise; with 204 there is none
    bool deprecated = false;  ///< the request used something that will go away
    bool fatal = false;       ///< the process ends once this answer is out
    const char* content_type = "application/json";

    static Response json(std::string body) { return {.status = 200, .body = std::move(body)}; }
    static Response fault(const std::string& message, int status = 400);
};

/// Bytes of an answer. Firecracker's heads, an empty reason phrase after the code and all.
std::string serialize(const Response& response, bool keep_alive);

/// The answer to what is not HTTP, or not HTTP as this API speaks it.
Response protocol_error(const std::string& reason);

/// "400 Bad Request", for the log.
const char* status_text(int status);

}  // namespace wisp::api
