// SPDX-License-Identifier: Apache-2.0
#include "jailer/program.h"

#include <unistd.h>

namespace wisp::jailer {

namespace {

const char* remedy(int errno_value) {
    switch (errno_value) {
        case ENOENT:
            return " (a dynamically linked program finds no loader in the jail; link it statically)";
        case ENOEXEC:
            return " (not a program for this machine)";
        case EACCES:
            return " (its file system may be mounted noexec, or it needs a loader; link it statically)";
        default:
            return "";
    }
}

}  // namespace

Error execute_program(const std::string& name, const Options& options, const StartTimes& times) {
    // By name and not by the descriptor of the copy, which would make the descriptor's number the process's name. There
    // is nothing to be gained by exchanging the file now: no privilege is left, and Landlock knows the file by its
    // inode.
    const std::string path = "/" + name;
    const std::string start = format("%lu", times.start_us), own = format("%lu", times.own_cpu_us),
                      parent = format("%lu", times.parent_cpu_us);
    std::vector<const char*> arguments = {
        path.c_str(),          "--id",      options.id.c_str(),     "--start-time-us", start.c_str(),
        "--start-time-cpu-us", own.c_str(), "--parent-cpu-time-us", parent.c_str()};
    for (const std::string& argument : options.program_arguments) arguments.push_back(argument.c_str());
    arguments.push_back(nullptr);

    const char* const no_environment[] = {nullptr};
    execve(path.c_str(), const_cast<char* const*>(arguments.data()), const_cast<char* const*>(no_environment));
    const int reason = errno;
    Error error = fail_errno("cannot execute %s in the jail", name.c_str()).error();
    error.message += remedy(reason);
    return error;
}

}  // namespace wisp::jailer
