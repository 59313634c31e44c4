// SPDX-License-Identifier: Apache-2.0
#include "jailer/deadline.h"

#include <signal.h>
#include <string.h>
#include <unistd.h>

namespace wisp::jailer {

namespace {

// The one global of the jailer: a signal handler has nothing else to write to.
volatile sig_atomic_t g_signal = 0;

void note_signal(int number) {
    g_signal = number;
}

}  // namespace

Result<void> arm_deadline(unsigned seconds) {
    struct sigaction action = {};
    action.sa_handler = note_signal;  // and no SA_RESTART: what the step waits in has to return
    for (const int number : {SIGALRM, SIGTERM, SIGINT, SIGHUP}) {
        if (number == SIGHUP) {
            // nohup(1) has it ignored, and so it stays, for the program in the jail too.
            struct sigaction present;
            if (sigaction(SIGHUP, nullptr, &present) == 0 && present.sa_handler == SIG_IGN) continue;
        }
        if (sigaction(number, &action, nullptr) < 0) return fail_errno("cannot handle signal %d", number);
    }
    alarm(seconds);
    return {};
}

void rearm_deadline(unsigned seconds) {
    alarm(seconds);
}
void disarm_deadline() {
    alarm(0);
}

Result<void> check_deadline() {
    if (g_signal == 0) return {};
    if (g_signal == SIGALRM)
        return fail("set-up took longer than %u s; a file system or a cgroup of this host does not answer",
                    kSetUpDeadline_s);
    return fail("stopped by %s", sigabbrev_np(g_signal) ? format("SIG%s", sigabbrev_np(g_signal)).c_str() : "a signal");
}

}  // namespace wisp::jailer
