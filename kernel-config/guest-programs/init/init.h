// SPDX-License-Identifier: Apache-2.0
// The guest's init: one static program without a C library, called as /sbin/init, poweroff, reboot or halt.
// Each job is one file; main.cc tells their order.
#pragma once

#include <string_view>

#include "sys.h"

// -- main.cc
int run_program(int argument_count, const char* const* arguments);

// -- host_page.cc: the page at 0xc0000000 by which a guest speaks to its monitor (see ../../README.md)
bool report_boot();  // false if /dev/mem is not there
void report_exit_status(int status);

// -- mounts.cc
void mount_devices();
void mount_file_systems();  // everything else
void unmount_file_systems();

// -- system.cc: host name and loopback interface
void set_host_name();
void bring_up_loopback();

// -- console.cc
bool console_is_terminal();
void take_console_as_terminal();  // in a child: a session of its own, with job control
void open_standard_files();       // pid 1 may have been given none
void say(std::string_view a, std::string_view b = {}, std::string_view c = {}, std::string_view d = {});
std::string_view error_text(int negative_errno);

// -- command_line.cc: what follows ` -- ` on the kernel command line, as an argument vector
struct Command {
    static constexpr int kMaxArguments = 64;
    const char* arguments[kMaxArguments + 1];  // ends with a null pointer
    int count;
    const char* agent;  // the word `wisp.agent` or `wisp.agent=PORT` before ` -- `, or null
};
const Command& command_of_kernel_line();

// -- supervise.cc: runs the command or the shell, reaps orphans, obeys signals
enum class End { kPowerOff, kReboot };
struct Ending {
    int exit_status;
    End end;
};
Ending supervise(const Command& command);
void end_all_processes();

// -- exec.cc
constexpr int kNotFound = 127;  // exit status, as a shell says it
constexpr int kNotExecutable = 126;
[[noreturn]] void become(const char* const* arguments);  // unblocks signals; says why if it cannot
extern const char* const kEnvironment[];

// -- power.cc: how a VM ends
[[noreturn]] void end_machine(End end);

// -- power_commands.cc: poweroff, reboot and halt, for the guest's users
bool is_power_command(std::string_view name);
int run_power_command(std::string_view name, int argument_count, const char* const* arguments);
