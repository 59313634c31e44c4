// SPDX-License-Identifier: Apache-2.0
//
// System calls that the host refuses, for tests: by seccomp, in a process of the test's own.
#pragma once

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <iterator>
#include <optional>
#include <thread>

namespace wisp::test {

inline sock_filter statement(uint16_t code, uint32_t value) {
    return {code, 0, 0, value};
}

/// From now on this thread's calls of `number` come to `action`. Returns the listener, if that is what `action` wants.
inline int divert(long number, uint32_t action) {
    sock_filter steps[] = {statement(BPF_LD | BPF_W | BPF_ABS, 0),
                           {BPF_JMP | BPF_JEQ | BPF_K, 0, 1, static_cast<uint32_t>(number)},
                           statement(BPF_RET | BPF_K, action),
                           statement(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
    const sock_fprog program{std::size(steps), steps};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) return -1;
    return static_cast<int>(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
                                    action == SECCOMP_RET_USER_NOTIF ? SECCOMP_FILTER_FLAG_NEW_LISTENER : 0, &program));
}

/// A filter stays for ever, so the body runs in a process of its own. True if it returned true.
template <class Body>
bool in_child(Body body) {
    const pid_t child = fork();
    if (child == 0) {
        bool good = false;
        try {
            good = body();
        } catch (...) {  // a failed REQUIRE: it has been reported, and the other tests are not ours to run
        }
        _exit(good ? 0 : 1);
    }
    int status = 0;
    waitpid(child, &status, 0);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/// Answers EAGAIN to the first calls on the first ring that it sees, and lets all others through.
inline void refuse_first_calls(const std::atomic<int>& listener, std::atomic<int>& refused, int most) {
    while (listener < 0) std::this_thread::yield();
    std::optional<uint64_t> ring;
    for (;;) {
        seccomp_notif call{};
        if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &call) < 0) return;
        if (!ring) ring = call.data.args[0];
        seccomp_notif_resp answer{.id = call.id, .val = 0, .error = 0, .flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE};
        if (call.data.args[0] == *ring && refused < most) {
            ++refused;
            answer = {.id = call.id, .val = 0, .error = -EAGAIN, .flags = 0};
        }
        if (ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer) < 0) return;
    }
}

}  // namespace wisp::test
