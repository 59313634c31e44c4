// SPDX-License-Identifier: Apache-2.0
//
// Router: finds the route of a request, which calls the Controller and answers with the outcome. The rules of paths and
// bodies, and their texts, are Firecracker's.
//
// Threads: control's.
#pragma once

#include <functional>
#include <string_view>
#include <vector>

#include "api/counters.h"
#include "api/message.h"
#include "vmm/controller.h"

namespace wisp::api {

class Router {
public:
    using Reply = std::move_only_function<void(Response)>;

    /// The page of GET /metrics/prometheus; without one there is no such path.
    using Exporter = std::function<std::string()>;

    explicit Router(Controller& controller, Exporter exporter = {})
        : controller_(controller), exporter_(std::move(exporter)) {}

    /// Answers a request by one call of `reply`, at once or when the machine is done. Logs the request and the answer.
    void handle(Request request, Reply reply);

    Counters& counters() { return counters_; }

private:
    Controller& controller_;
    Counters counters_;
    Exporter exporter_;
};

}  // namespace wisp::api
