// SPDX-License-Identifier: Apache-2.0
#include "api/message.h"

#include "base/result.h"
#include "vmm/config/json_writer.h"

namespace wisp::api {

const char* to_string(Method method) {
    switch (method) {
        case Method::kGet:
            return "GET";
        case Method::kPut:
            return "PUT";
        case Method::kPatch:
            return "PATCH";
        case Method::kDelete:
            return "DELETE";
        case Method::kOther:
            break;
    }
    return "OTHER";
}

Response Response::fault(const std::string& message, int status) {
    config::JsonWriter out;
    out.begin_object();
    out.key("fault_message");
    out.string(message);
    out.end_object();
    return {.status = status, .body = out.take()};
}

Response protocol_error(const std::string& reason) {
    return {.status = 400,
            .body = "{ \"error\": \"" + reason + "\nAll previous unanswered requests will be dropped.\" }"};
}

std::string serialize(const Response& response, bool keep_alive) {
    std::string out = format("HTTP/1.1 %d \r\nServer: Firecracker API\r\nConnection: %s\r\n", response.status,
                             keep_alive ? "keep-alive" : "close");
    if (response.deprecated) out += "Deprecation: true\r\n";
    if (response.body.empty()) return out + "\r\n";
    out += format("Content-Type: %s\r\nContent-Length: %zu\r\n\r\n", response.content_type, response.body.size());
    return out + response.body;
}

const char* status_text(int status) {
    switch (status) {
        case 200:
            return "200 OK";
        case 204:
            return "204 No Content";
        case 413:
            return "413 Payload Too Large";
        default:
            return "400 Bad Request";
    }
}

}  // namespace wisp::api
