// SPDX-License-Identifier: Apache-2.0
//
// Capabilities of the calling thread. The jailed program keeps none, and there is none that it could come by: the
// bounding and ambient sets are emptied too, and executing a file gains nothing (no_new_privs). This holds for --uid 0.
#pragma once

#include <linux/capability.h>

#include "base/result.h"

namespace wisp::jailer {

struct CapabilitySets {
    __user_cap_data_struct words[_LINUX_CAPABILITY_U32S_3];
};

/// capget(2).
Result<CapabilitySets> read_capabilities();
/// capset(2).
Result<void> write_capabilities(const CapabilitySets& sets);

/// PR_SET_NO_NEW_PRIVS. Without it neither Landlock nor a seccomp filter could be installed once root is gone.
Result<void> set_no_new_privileges();

/// Empties the bounding and ambient sets. Needs CAP_SETPCAP, so it comes before the user changes.
Result<void> empty_bounding_set();

/// Empties the effective, permitted and inheritable sets; the last to go.
Result<void> drop_capabilities();

}  // namespace wisp::jailer
