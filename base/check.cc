// SPDX-License-Identifier: Apache-2.0
#include "base/check.h"

#include <unistd.h>

#include <cstdio>
#include <cstdlib>

namespace wisp {

void check_failed(const char* condition, const char* file, int line) {
    char text[256];
    const int length =
        snprintf(text, sizeof text, "wisp: internal error: %s does not hold at %s:%d\n", condition, file, line);
    if (length > 0 && write(STDERR_FILENO, text, static_cast<size_t>(length)) < 0) {
        // Nothing more can be done for the message; the process stops all the same.
    }
    abort();
}

}  // namespace wisp
