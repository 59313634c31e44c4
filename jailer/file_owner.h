// SPDX-License-Identifier: Apache-2.0
//
// The file-system identity of this thread: while it is the jail's, every file is born with the jail's owner. No chown
// follows, so there is no moment at which a file has the wrong owner and no second look at its name.
#pragma once

#include <sys/types.h>

#include "base/result.h"

namespace wisp::jailer {

/// What this thread makes from here on belongs to `uid` and `gid`. Its capabilities stay in force.
Result<void> make_files_as(uid_t uid, gid_t gid);

/// What this thread makes from here on belongs to root again.
Result<void> make_files_as_root();

}  // namespace wisp::jailer
