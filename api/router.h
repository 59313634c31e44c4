// SPDX-License-Identifier: Apache-2.0
//
// Router: what a request asks for, said to the Controller, and its outcome as an answer. The rules of paths and bodies,
// and their texts, are Firecracker's.
//
// Threads: the loop's.
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

    /// Text of GET /metrics/prometheus; empty: there is no such path.
    using Exporter = std::function<std::string()>;

    explicit Router(Controller& controller, Exporter exporter = {})
        : controller_(controller), exporter_(std::move(exporter)) {}

    /// Answers `request` by `reply`, once, at once or when the machine has done what it asks for. Logs both.
    void handle(Request request, Reply reply);

    Counters& counters() { return counters_; }

private:
    Controller& controller_;
    Counters counters_;
    Exporter exporter_;
};

}  // namespace wisp::api
