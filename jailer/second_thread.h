// SPDX-License-Identifier: Apache-2.0
//
// A thread to give up privileges on and to execute the program from.
//
// User ids, capabilities, no_new_privs and Landlock belong to a thread, not to the process. Given up on a second
// thread, they are still there on the first if the program cannot be executed after all, which no check can tell before
// trying: so the first can take back what was made. If it can be executed, execve(2) ends the first thread, and the
// second takes over the process, its pid included.
#pragma once

namespace wisp::jailer {

/// Runs `function(argument)` on a new thread that shares everything with this one, which is suspended meanwhile.
/// Returns when the function has returned; not at all if it executes a program. False if there can be no thread (errno
/// is set). Only one at a time.
bool run_on_second_thread(int (*function)(void*), void* argument);

}  // namespace wisp::jailer
