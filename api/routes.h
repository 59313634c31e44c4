// SPDX-License-Identifier: Apache-2.0
//
// The routes of the API: for a method and the first segments of a path, what to do. A route that uses no further
// segment ignores those that follow, as Firecracker does.
#pragma once

#include <cstdint>
#include <span>

#include "api/call.h"

namespace wisp::api {

/// Whether the log shows the body of a request.
enum class BodyLog : uint8_t {
    kShown,
    kDebug,   ///< at level Debug only: it is long
    kHidden,  ///< it may hold secrets
};

struct Route {
    Method method;
    const char* path;  ///< one segment, or two with a slash between them
    void (*run)(Call call);
    const char* counted_as = nullptr;  ///< its name in the metrics
    BodyLog body_log = BodyLog::kShown;
};

/// The route of a method and a path's segments, or nullptr. A request without a route has a body that is not known,
/// and so may hold secrets.
const Route* find_route(Method method, std::span<const std::string> segments);

}  // namespace wisp::api
