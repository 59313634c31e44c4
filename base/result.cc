// SPDX-License-Identifier: Apache-2.0
#include "base/result.h"

#include <cstdarg>
#include <cstdio>
#include <cstring>

namespace wisp {

std::string format(const char* pattern, ...) {
    char small[256];
    va_list args;
    va_start(args, pattern);
    const int length = vsnprintf(small, sizeof small, pattern, args);
    va_end(args);
    if (length < 0) return pattern;
    if (static_cast<size_t>(length) < sizeof small) return {small, static_cast<size_t>(length)};

    std::string text(static_cast<size_t>(length), '\0');
    va_start(args, pattern);
    vsnprintf(text.data(), text.size() + 1, pattern, args);
    va_end(args);
    return text;
}

std::string errno_text(int errno_value) {
    const char* text = strerrordesc_np(errno_value);
    return text ? text : format("errno %d", errno_value);
}

std::string os_error(int errno_value) {
    return errno_text(errno_value) + format(" (os error %d)", errno_value);
}

}  // namespace wisp
