// SPDX-License-Identifier: Apache-2.0
#include "api/router.h"

#include "api/call.h"
#include "api/routes.h"
#include "base/log.h"

namespace wisp::api {

namespace {

/// A body as Rust's {:?} shows it, so that it stays on one line of the log.
std::string quoted(std::string_view text) {
    std::string out = "\"";
    for (const char c : text) {
        if (c == '"' || c == '\\')
            (out += '\\') += c;
        else if (c == '\n')
            out += "\\n";
        else if (c == '\r')
            out += "\\r";
        else if (c == '\t')
            out += "\\t";
        else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f)
            out += format("\\u{%x}", static_cast<unsigned>(c));
        else
            out += c;
    }
    return out + '"';
}

/// Metadata may be secret, and a CPU template is long: their bodies are not logged.
void log_request(const Request& request) {
    static constexpr const char* kNames[] = {"Get", "Put", "Patch", "Delete", "Unknown"};
    const char* const method = kNames[static_cast<unsigned>(request.method)];
    const std::string path = quoted(request.path);
    if (request.path == "/cpu-config")
        LOG_INFO(
            "The API server received a %s request on %s. To view the CPU template received by the API, configure "
            "log-level to DEBUG.",
            method, path.c_str());
    else if (request.body.empty() || request.path.starts_with("/mmds"))
        LOG_INFO("The API server received a %s request on %s.", method, path.c_str());
    else
        LOG_INFO("The API server received a %s request on %s with body %s.", method, path.c_str(),
                 quoted(request.body).c_str());
}

/// A body where there must be none, or none where there must be one. True if it ended the call.
bool refused_for_body(Call& call) {
    const bool empty = call.request.body.empty();
    switch (call.request.method) {
        case Method::kGet:
            if (!empty) call.refuse("GET request cannot have a body.");
            return !empty;
        case Method::kPut:
            if (empty) call.refuse("Empty PUT request.");
            return empty;
        case Method::kPatch:
            if (empty) call.refuse("Empty PATCH request.");
            return empty;
        case Method::kDelete:
            if (!empty) call.refuse("Empty Delete request.");
            return !empty;
        case Method::kOther:
            break;
    }
    call.reply(protocol_error("Invalid HTTP Method: Unsupported HTTP method."));
    return true;
}

}  // namespace

void Router::handle(Request request, Reply reply) {
    log_request(request);
    Call call(controller_, counters_, std::move(request), std::move(reply));
    if (refused_for_body(call)) return;
    if (exporter_ && call.request.method == Method::kGet && call.path[0] == "metrics" &&
        call.segment(1) == "prometheus") {
        Response response = Response::json(exporter_());
        response.content_type = "text/plain; version=0.0.4";
        return call.reply(std::move(response));
    }
    for (const Route& route : routes()) {
        if (route.method != call.request.method || call.path[0] != route.segment) continue;
        call.counted_as = route.counted_as;
        return route.run(std::move(call));
    }
    call.refuse_path();
}

}  // namespace wisp::api
