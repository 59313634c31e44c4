// SPDX-License-Identifier: Apache-2.0
#include "api/call.h"

#include "base/log.h"
#include "base/loop.h"

namespace wisp::api {

namespace {

/// "/drives/a/" to {"drives", "a"}. Slashes before the first segment do not count, nor does one behind the last.
std::vector<std::string> segments(std::string_view path) {
    while (path.starts_with('/')) path.remove_prefix(1);
    if (path.ends_with('/')) path.remove_suffix(1);
    std::vector<std::string> out;
    for (;;) {
        const size_t slash = path.find('/');
        out.emplace_back(path.substr(0, slash));
        if (slash == std::string_view::npos) return out;
        path.remove_prefix(slash + 1);
    }
}

}  // namespace

Call::Call(Controller& the_controller, Counters& counters, Request the_request, Reply reply)
    : controller(the_controller),
      request(std::move(the_request)),
      path(segments(request.path)),
      started_ns_(monotonic_ns()),
      counters_(&counters),
      reply_(std::move(reply)) {}

const std::string& Call::segment(size_t index) const {
    static const std::string kNone;
    return index < path.size() ? path[index] : kNone;
}

void Call::reply(Response response) {
    if (response.status < 300)
        LOG_INFO("The request was executed successfully. Status code: %s.", status_text(response.status));
    if (deprecated_) LOG_WARNING("%s", deprecated_);
    if (deprecated_) {
        response.deprecated = true;
        response.headers = "Deprecation: true\r\n";
    }
    counters_->count(request.method, counted_as, response);
    const uint64_t took_ns = monotonic_ns() - started_ns_;
    counters_->record_duration(request.method, took_ns);
    LOG_DEBUG("Total previous API call duration: %lu us.", took_ns / 1000);
    reply_(std::move(response));
}

void Call::reply(Outcome<> outcome) {
    if (outcome) return reply(Response::no_content());
    refuse(outcome.error());
}

void Call::refuse(const Fault& fault) {
    LOG_ERROR("Received Error. Status code: %s. Message: %s", status_text(fault.status), fault.message.c_str());
    Response response = Response::fault(fault.message, fault.status);
    response.fatal = fault.fatal;
    reply(std::move(response));
}

void Call::reply_json(std::string body) {
    reply(Response::json(std::move(body)));
}

void Call::refuse_path() {
    refuse(format("Invalid request method and/or path: %s %s.", to_string(request.method), path[0].c_str()));
}

void Call::refuse_body(const std::string& message) {
    refuse("An error occurred when deserializing the json body of a request: " + message + ".");
}

OutcomeHandler Call::later() && {
    return [call = std::move(*this)](Outcome<> outcome) mutable { call.reply(std::move(outcome)); };
}

bool Call::has_id() {
    const auto checked = config::check_resource_id(segment(1));
    if (!checked) refuse(checked.error().message);
    return checked.has_value();
}

}  // namespace wisp::api
