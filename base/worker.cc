// SPDX-License-Identifier: Apache-2.0
#include "base/worker.h"

#include <csignal>
#include <utility>

#include "base/log.h"

namespace wisp {

namespace {

/// Signals to the process are for the thread that watches for them. A worker takes those that its own work raises, and
/// SIGRTMIN, which gets it out of a system call.
sigset_t others_signals() {
    sigset_t set;
    sigfillset(&set);
    for (const int own : {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGSYS, SIGTRAP, SIGABRT, SIGXFSZ, SIGRTMIN})
        sigdelset(&set, own);
    return set;
}

cpu_set_t allowed_cpus() {
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    sched_getaffinity(0, sizeof cpus, &cpus);
    return cpus;
}

cpu_set_t other_cpus(cpu_set_t cpus) {
    if (const int here = sched_getcpu(); here >= 0) CPU_CLR(static_cast<unsigned>(here), &cpus);
    return cpus;
}

}  // namespace

bool Worker::has_cpu_of_its_own() {
    const cpu_set_t others = other_cpus(allowed_cpus());
    return CPU_COUNT(&others) > 0;
}

// A new thread is often put on its creator's CPU and waits there until the creator sleeps or is preempted, though
// another CPU idles: 1 to 2 ms, more than all of its work. So it starts on another one, and may go anywhere from then
// on.
Result<std::unique_ptr<Worker>> Worker::start(const char* name, size_t stack_size) {
    std::unique_ptr<Worker> worker(new Worker(name));
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, stack_size);
    worker->allowed_cpus_ = allowed_cpus();
    if (const cpu_set_t others = other_cpus(worker->allowed_cpus_); CPU_COUNT(&others) > 0)
        pthread_attr_setaffinity_np(&attributes, sizeof others, &others);
    const sigset_t blocked = others_signals();
    pthread_attr_setsigmask_np(&attributes, &blocked);
    errno = pthread_create(&worker->thread_, &attributes, thread_main, worker.get());
    pthread_attr_destroy(&attributes);
    if (errno) return fail_errno("cannot start its thread");
    worker->started_ = true;
    return worker;
}

Worker::~Worker() {
    if (!started_) return;
    {
        const std::lock_guard lock(mutex_);
        end_ = true;
    }
    told_.notify_one();
    pthread_join(thread_, nullptr);
}

void Worker::run(std::function<void()> task) {
    {
        const std::lock_guard lock(mutex_);
        tasks_.push_back(std::move(task));
    }
    told_.notify_one();
}

void* Worker::thread_main(void* self) {
    static_cast<Worker*>(self)->work();
    return nullptr;
}

void Worker::work() {
    log::set_thread_name(name_);
    sched_setaffinity(0, sizeof allowed_cpus_, &allowed_cpus_);
    pthread_setname_np(pthread_self(), name_);
    std::unique_lock lock(mutex_);
    for (;;) {
        told_.wait(lock, [this] { return end_ || !tasks_.empty(); });
        if (tasks_.empty()) return;
        for (auto& task : std::exchange(tasks_, {})) {
            lock.unlock();
            task();
            lock.lock();
        }
    }
}

}  // namespace wisp
