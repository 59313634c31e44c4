// SPDX-License-Identifier: Apache-2.0
//
// Worker: a thread that does what it is given, one task after the other, and starts at once.
#pragma once

#include <pthread.h>
#include <sched.h>

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "base/result.h"

namespace wisp {

class Worker {
public:
    /// `name`: at most 15 characters, never freed. `stack_size`: bytes. An error says "its thread".
    static Result<std::unique_ptr<Worker>> start(const char* name, size_t stack_size = kStackSize);
    Worker(const Worker&) = delete;
    Worker& operator=(const Worker&) = delete;
    /// Waits for all tasks to end.
    ~Worker();

    /// Whether a worker would have a CPU that is not the caller's.
    static bool has_cpu_of_its_own();

    void run(std::function<void()> task);
    pthread_t thread() const { return thread_; }

private:
    /// The deepest that a vCPU's thread goes is a device's register handler and a log line.
    static constexpr size_t kStackSize = 128 << 10;
    explicit Worker(const char* name) : name_(name) {}
    static void* thread_main(void* self);
    void work();

    const char* const name_;
    pthread_t thread_{};
    bool started_ = false;
    cpu_set_t allowed_cpus_{};
    std::mutex mutex_;
    std::condition_variable told_;
    std::vector<std::function<void()>> tasks_;
    bool end_ = false;
};

}  // namespace wisp
