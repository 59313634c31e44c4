// SPDX-License-Identifier: Apache-2.0
//
// Resource limits of the process.
#pragma once

#include "jailer/options.h"

namespace wisp::jailer {

/// Sets soft and hard limit to what was asked for.
Result<void> set_resource_limits(const ResourceLimits& limits);

}  // namespace wisp::jailer
