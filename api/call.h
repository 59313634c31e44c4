// SPDX-License-Identifier: Apache-2.0
//
// Call: one request on its way through a route, and the ways to end it.
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

    // Each ends the call.
    void reply(Outcome<> outcome);
    void reply_json(std::string body);
    void reply(Response response);
    void refuse(const Fault& fault);
    void refuse(std::string message) { refuse(Fault{std::move(message)}); }
    void refuse_path();

    /// Ends the call when the machine has done its part.
    OutcomeHandler later() &&;

    /// The answer gets a Deprecation header, and the log says what is deprecated.
    void deprecate(const char* what) { deprecated_ = what; }

    /// The body as a T, or nothing: then the call has ended with what is wrong with the body.
    template <class T>
    std::optional<T> body() {
        auto decoded = config::decode<T>(config::parse_json(request.body));
        if (decoded) return *std::move(decoded);
        refuse_body(decoded.error().message);
        return std::nullopt;
    }
    void refuse_body(const std::string& message);

    /// The second segment as the id of a drive or an interface. False if it is none: then the call has ended.
    bool has_id();

private:
    uint64_t started_ns_;
    Counters* counters_;
    Reply reply_;
    const char* deprecated_ = nullptr;
};

}  // namespace wisp::api
