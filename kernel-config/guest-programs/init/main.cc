// SPDX-License-Identifier: Apache-2.0
// The life of a guest's user land, in order.

#include "init.h"

namespace {

[[noreturn]] void live_as_pid_1() {
    // The boot timer stops here, before any other work: it measures the machine, not this program.
    if (!report_boot()) {
        mount_devices();  // the kernel mounts /dev itself on a root drive, but not in an initrd
        report_boot();
    }

    // Signals are waited for, never handled: pid 1 must not be interrupted, and children get them unblocked.
    sys::block_signals(~sys::SignalSet{0});

    open_standard_files();
    mount_file_systems();
    set_host_name();
    bring_up_loopback();

    const Ending ending = supervise(command_of_kernel_line());

    report_exit_status(ending.exit_status);
    end_all_processes();
    sys::sync();
    unmount_file_systems();
    end_machine(ending.end);
}

std::string_view base_name(const char* path) {
    std::string_view name = path;
    if (const size_t slash = name.rfind('/'); slash != name.npos) name.remove_prefix(slash + 1);
    return name;
}

}  // namespace

int run_program(int argument_count, const char* const* arguments) {
    const std::string_view name = argument_count > 0 ? base_name(arguments[0]) : "init";
    if (is_power_command(name)) return run_power_command(name, argument_count, arguments);
    if (sys::getpid() == 1) live_as_pid_1();
    say("init: must be started by the kernel, as process 1\n");
    return 1;
}
