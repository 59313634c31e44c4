// SPDX-License-Identifier: Apache-2.0
#include "api/router.h"

#include "api/call.h"
#include "api/routes.h"
#include "base/log.h"
#include "base/quote.h"

namespace wisp::api {

namespace {

void log_request(const Request& request, const Route* route) {
    static constexpr const char* kNames[] = {"Get", "Put", "Patch", "Delete", "Unknown"};
    const char* const method = kNames[static_cast<unsigned>(request.method)];
    const std::string path = quoted(request.path);
    const BodyLog body_log = route ? route->body_log : BodyLog::kHidden;
    const bool shown =
        body_log == BodyLog::kShown || (body_log == BodyLog::kDebug && log::enabled(log::Level::kDebug, __FILE__));
    if (shown && !request.body.empty())
        LOG_INFO("The API server received a %s request on %s with body %s.", method, path.c_str(),
                 quoted(request.body).c_str());
    else if (body_log == BodyLog::kDebug)
        LOG_INFO(
            "The API server received a %s request on %s. To view the CPU template received by the API, configure "
            "log-level to DEBUG.",
            method, path.c_str());
    else
        LOG_INFO("The API server received a %s request on %s.", method, path.c_str());
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
    call.reply(Response::protocol_error("Invalid HTTP Method: Unsupported HTTP method."));
    return true;
}

}  // namespace

void Router::handle(Request request, Reply reply) {
    Call call(controller_, counters_, std::move(request), std::move(reply));
    const Route* const route = find_route(call.request.method, call.path);
    log_request(call.request, route);
    if (refused_for_body(call)) return;
    if (exporter_ && call.request.method == Method::kGet && call.path[0] == "metrics" &&
        call.segment(1) == "prometheus") {
        Response response = Response::json(exporter_());
        response.content_type = "text/plain; version=0.0.4";
        return call.reply(std::move(response));
    }
    if (!route) return call.refuse_path();
    call.counted_as = route->counted_as;
    route->run(std::move(call));
}

}  // namespace wisp::api
