// SPDX-License-Identifier: Apache-2.0
//
// CHECK: an invariant of our own. It stays on in release builds and stops the process at once: a monitor that is wrong
// about itself must not go on serving a guest. Never use it on anything that a guest, client or file can influence.
#pragma once

namespace wisp {

[[noreturn, gnu::cold]] void check_failed(const char* condition, const char* file, int line);

}  // namespace wisp

#define CHECK(condition)                                               \
    do {                                                               \
        if (!(condition)) [[unlikely]]                                 \
            ::wisp::check_failed(#condition, __FILE_NAME__, __LINE__); \
    } while (false)
