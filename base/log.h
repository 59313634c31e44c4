// SPDX-License-Identifier: Apache-2.0
//
// The log: one line an event, in Firecracker's format, which its users' tools parse:
//   2026-11-21T10:00:00.123456789 [anonymous-instance:main] message
// with `:LEVEL` and `:file:line` in the brackets where they are switched on.
//
// A line never blocks its writer: a sink that takes no bytes now loses the line, which is counted. A line is formatted
// on the stack, without an allocation and without a lock.
//
// Lines that a guest can cause go through LOG_LIMITED: at most limits::kLogBurst in limits::kLogInterval_s from one
// call site. The lines that were left out are counted, and the next line says how many they were.
//
// Threads: any. The configuration changes only while no other thread logs. The log is the one global of the monitor:
// every file uses it, and nothing in it influences what the monitor does.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>

namespace wisp::log {

enum class Level : uint8_t { kOff, kError, kWarning, kInfo, kDebug, kTrace };

struct Config {
    Level level = Level::kInfo;
    bool show_level = false;
    bool show_origin = false;
    std::string instance_id = "anonymous-instance";
    std::string module;  ///< only lines from files whose path starts with this; empty: all
    int fd = 1;          ///< the sink
    enum class Sink { kStandardOutput, kFile } sink = Sink::kStandardOutput;  ///< kFile: one that the operator named
};

void configure(Config config);
const Config& config();

/// Name of the calling thread in its log lines; a string literal.
void set_thread_name(const char* name);

bool enabled(Level level, const char* file);
[[gnu::format(printf, 4, 5)]] void write(Level level, const char* file, int line, const char* pattern, ...);

/// Lines that the sink did not take, or not as a whole.
uint64_t dropped();
/// Lines that the limiters of all call sites left out.
uint64_t left_out();

/// Rate limit of one call site.
class Limiter {
public:
    /// True if a line may be written now. Sets `suppressed` to the lines that were left out since the last one.
    bool allow(uint64_t& suppressed);

private:
    std::atomic<uint64_t> window_start_ns_ = 0;
    std::atomic<uint32_t> in_window_ = 0;
    std::atomic<uint64_t> suppressed_ = 0;
};

}  // namespace wisp::log

#define WISP_LOG(level, ...)                                                                                   \
    do {                                                                                                       \
        if (::wisp::log::enabled(level, __FILE__)) ::wisp::log::write(level, __FILE__, __LINE__, __VA_ARGS__); \
    } while (false)

#define LOG_ERROR(...) WISP_LOG(::wisp::log::Level::kError, __VA_ARGS__)
#define LOG_WARNING(...) WISP_LOG(::wisp::log::Level::kWarning, __VA_ARGS__)
#define LOG_INFO(...) WISP_LOG(::wisp::log::Level::kInfo, __VA_ARGS__)
#define LOG_DEBUG(...) WISP_LOG(::wisp::log::Level::kDebug, __VA_ARGS__)

/// For lines that a guest or client can cause at will.
#define LOG_LIMITED(...)                                                                                              \
    do {                                                                                                              \
        static ::wisp::log::Limiter limiter_;                                                                         \
        uint64_t suppressed_ = 0;                                                                                     \
        if (::wisp::log::enabled(::wisp::log::Level::kWarning, __FILE__) && limiter_.allow(suppressed_)) {            \
            if (suppressed_)                                                                                          \
                ::wisp::log::write(::wisp::log::Level::kWarning, __FILE__, __LINE__,                                  \
                                   "%lu lines like the next were left out", static_cast<unsigned long>(suppressed_)); \
            ::wisp::log::write(::wisp::log::Level::kWarning, __FILE__, __LINE__, __VA_ARGS__);                        \
        }                                                                                                             \
    } while (false)
