// SPDX-License-Identifier: Apache-2.0
//
// User and group ids of the calling thread.
#pragma once

#include <sys/types.h>

#include "base/result.h"

namespace wisp::jailer {

/// Drops all supplementary groups, then becomes `gid` and `uid` for good: real, effective, saved and file-system ids.
/// Changes this thread alone, which the C library's functions of the same names would not promise.
Result<void> become(uid_t uid, gid_t gid);

}  // namespace wisp::jailer
