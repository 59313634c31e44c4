// SPDX-License-Identifier: Apache-2.0
//
// Result<T> and Error: how a host or operator error travels up to the one line that a person reads.
// Guest misbehaviour does not come this way (a device answers it on the spot), and a broken invariant of our own stops
// the process (see check.h).
#pragma once

#include <cerrno>
#include <expected>
#include <string>
#include <utility>

namespace wisp {

/// printf-style formatting into a string: checked by the compiler, and no locale or stream is set up for it.
[[gnu::format(printf, 1, 2)]] std::string format(const char* pattern, ...);

/// Name of an errno value as a person reads it, e.g. "No such file or directory".
std::string errno_text(int errno_value);
/// The same as Firecracker writes it: "No such file or directory (os error 2)".
std::string os_error(int errno_value);

struct Error {
    std::string message;  ///< one line: what failed, on which object, why, and the remedy where it is known
    int errno_value = 0;  ///< the errno behind it, or 0 where no system call failed

    /// The same error with what was being done put in front: "<context>: <message>".
    Error with_context(const std::string& context) && {
        message = context + ": " + message;
        return std::move(*this);
    }
};

template <class T = void>
using Result = std::expected<T, Error>;

/// return fail("drive %s: …", id);
template <class... Args>
[[nodiscard]] std::unexpected<Error> fail(const char* pattern, Args... args) {
    if constexpr (sizeof...(args) == 0)
        return std::unexpected(Error{pattern, 0});
    else
        return std::unexpected(Error{format(pattern, args...), 0});
}

/// return fail_errno("cannot open %s", path): appends ": <reason of errno>" and keeps errno.
template <class... Args>
[[nodiscard]] std::unexpected<Error> fail_errno(const char* pattern, Args... args) {
    const int saved = errno;
    Error error = fail(pattern, args...).error();
    error.message += ": " + errno_text(saved);
    error.errno_value = saved;
    return std::unexpected(std::move(error));
}

/// The error of a failed Result, as a temporary: moved out of a temporary, copied out of a variable.
template <class R>
auto error_of(R&& result) {
    return std::forward<R>(result).error();
}

}  // namespace wisp

/// The value of a Result, or return its error: moved out of a temporary, copied out of a variable.
#define TRY(...) WISP_TRY_NAMED_(WISP_JOIN_(try_result_, __COUNTER__), , __VA_ARGS__)

/// As TRY, with what was being done (a std::string or literal) put in front of the error.
#define TRY_CONTEXT(context, ...) \
    WISP_TRY_NAMED_(WISP_JOIN_(try_result_, __COUNTER__), .with_context(context), __VA_ARGS__)

// Each use has a name of its own, so that one may stand inside another.
#define WISP_JOIN_(a, b) WISP_JOIN_NOW_(a, b)
#define WISP_JOIN_NOW_(a, b) a##b
#define WISP_TRY_NAMED_(name, with_context_, ...)                                                       \
    ({                                                                                                  \
        auto&& name = (__VA_ARGS__);                                                                    \
        if (!name.has_value()) [[unlikely]]                                                             \
            return std::unexpected(::wisp::error_of(std::forward<decltype(name)>(name)) with_context_); \
        *std::forward<decltype(name)>(name);                                                            \
    })
