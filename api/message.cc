// SPDX-License-Identifier: Apache-2.0
#include "api/message.h"

#include "vmm/config/json_writer.h"

namespace wisp::api {

namespace {

Response with_body(int status, std::string body) {
    Response response;
    response.status = status;
    response.body = std::move(body);
    return response;
}

}  // namespace

Response Response::json(std::string body) {
    return with_body(200, std::move(body));
}

Response Response::fault(const std::string& message, int status) {
    config::JsonWriter out;
    out.begin_object();
    out.key("fault_message");
    out.string(message);
    out.end_object();
    return with_body(status, out.take());
}

Response Response::protocol_error(const std::string& reason) {
    return with_body(400, "{ \"error\": \"" + reason + "\nAll previous unanswered requests will be dropped.\" }");
}

Response Response::too_many_connections() {
    return with_body(503, R"({ "error": "Too many open connections" })");
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
