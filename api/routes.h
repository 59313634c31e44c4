// SPDX-License-Identifier: Apache-2.0
//
// The routes of the API: for a method and the first segment of a path, what to do. The rest of a path is a route's own
// business, and segments that it does not use are ignored.
#pragma once

#include <span>

#include "api/call.h"

namespace wisp::api {

struct Route {
    Method method;
    const char* segment;
    void (*run)(Call call);
    const char* counted_as = nullptr;  ///< its name in the metrics
};

std::span<const Route> routes();

}  // namespace wisp::api
