// SPDX-License-Identifier: Apache-2.0
//
// The network namespace that the operator made for this microVM.
#pragma once

#include <string>

#include "base/result.h"

namespace wisp::jailer {

/// Joins the network namespace at `path`, e.g. /var/run/netns/<name>; links are followed, as `ip netns` makes them.
Result<void> join_network_namespace(const std::string& path);

}  // namespace wisp::jailer
