// SPDX-License-Identifier: Apache-2.0
//
// Call: one request in its route, and the ways to answer it.
//
// Threads: control's.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "api/counters.h"
#include "api/message.h"
#include "vmm/config/decode_resources.h"
#include "vmm/config/json.h"
#include "vmm/controller.h"

namespace wisp::api {

class Call {
public:
    using Reply = std::move_only_function<void(Response)>;

    Call(Controller& controller, Counters& counters, Request request, Reply reply);
    Call(Call&&) = default;

    Controller& controller;
    Request request;
    std::vector<std::string> path;  ///< its segments; there is at least one, which is empty for "/"

    const char* counted_as = nullptr;  ///< the resource's name in the metrics

    /// A segment of the path, or "" where it is shorter.
    const std::string& segment(size_t index) const;

    // Each of these answers the request, and so ends the call.
    void reply(Outcome<> outcome);
    void reply_json(std::string body);
    void reply(Response response);
    void refuse(const Fault& fault);
    void refuse(std::string message) { refuse(Fault{std::move(message)}); }
    void refuse_path();

    /// Answers the request when the machine is done.
    OutcomeHandler later() &&;

    /// The answer gets a Deprecation header, and the log says what is deprecated.
    void deprecate(const char* what) { deprecated_ = what; }

    /// The body as a T. Nothing if the body is wrong: then the request has been answered with what is wrong.
    template <class T>
    std::optional<T> body() {
        auto decoded = config::decode<T>(config::parse_json(request.body));
        if (decoded) return *std::move(decoded);
        refuse_body(decoded.error().message);
        return std::nullopt;
    }
    void refuse_body(const std::string& message);

    /// Whether the second segment is an id of a drive or an interface. False: then the request has been answered.
    bool has_id();

private:
    uint64_t started_ns_;
    Counters* counters_;
    Reply reply_;
    const char* deprecated_ = nullptr;
};

}  // namespace wisp::api
