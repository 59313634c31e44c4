// SPDX-License-Identifier: Apache-2.0
//
// File descriptors: nothing of the caller's reaches the jail but the three standard streams.
#pragma once

#include "base/result.h"

namespace wisp::jailer {

/// Closes every descriptor from 3 up, and points each of 0 to 2 that is closed at /dev/null, so that no file of the
/// jail's set-up takes its number and receives what is written to stderr.
Result<void> close_inherited_descriptors();

/// Makes the standard streams what `fd` is.
Result<void> replace_standard_streams(int fd);

}  // namespace wisp::jailer
