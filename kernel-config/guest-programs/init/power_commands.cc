// SPDX-License-Identifier: Apache-2.0
// poweroff, reboot and halt [-d SECONDS] [-n] [-f] [-p]: the options of busybox's programs of these names, which
// cannot end a VM whose kernel has no ACPI. Without -f process 1 is asked for an orderly end.

#include "init.h"

namespace {

struct Options {
    long delay_s = 0;
    bool sync = true;
    bool force = false;
    bool valid = true;
};

bool parse_seconds(const char* text, long& seconds) {
    constexpr long kMax = 1'000'000;
    if (text == nullptr || *text == 0) return false;
    for (seconds = 0; *text != 0; text++) {
        if (*text < '0' || *text > '9' || seconds > kMax) return false;
        seconds = seconds * 10 + (*text - '0');
    }
    return true;
}

Options parse_options(int argument_count, const char* const* arguments) {
    Options options;
    for (int i = 1; i < argument_count && options.valid; i++) {
        const char* letter = arguments[i];
        if (*letter++ != '-' || *letter == 0) options.valid = false;
        for (; options.valid && *letter != 0; letter++) {
            if (*letter == 'f')
                options.force = true;
            else if (*letter == 'n')
                options.sync = false;
            else if (*letter == 'p')
                continue;  // "halt -p": every halt of ours powers off
            else if (*letter == 'd') {
                const char* seconds = letter[1] != 0 ? letter + 1 : i + 1 < argument_count ? arguments[++i] : nullptr;
                options.valid = parse_seconds(seconds, options.delay_s);
                break;
            } else
                options.valid = false;
        }
    }
    return options;
}

}  // namespace

bool is_power_command(std::string_view name) {
    return name == "poweroff" || name == "reboot" || name == "halt";
}

int run_power_command(std::string_view name, int argument_count, const char* const* arguments) {
    const Options options = parse_options(argument_count, arguments);
    if (!options.valid) {
        say("usage: ", name, " [-d SECONDS] [-n] [-f] [-p]: -d waits, -n does not sync, -f does not ask init\n");
        return 1;
    }
    if (options.delay_s > 0) sys::sleep_ms(options.delay_s * 1000);
    if (options.sync) sys::sync();
    const bool reboot = name == "reboot";
    if (options.force) end_machine(reboot ? End::kReboot : End::kPowerOff);
    if (const int error = sys::kill(1, reboot ? SIGTERM : SIGUSR2); error < 0) {
        say(name, ": cannot signal init: ", error_text(error));
        return 1;
    }
    return 0;
}
