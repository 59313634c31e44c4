// SPDX-License-Identifier: Apache-2.0
#include "wisp/arguments.h"

#include <charconv>
#include <cstring>

#include "base/limits.h"
#include "base/version.h"
#include "vmm/config/vm_config.h"

namespace wisp {

namespace {

struct Parsed {
    Arguments arguments;
    const char* name = nullptr;   ///< of the flag at hand, without its dashes
    const char* value = nullptr;  ///< its value, or nullptr if it takes none
};

using Apply = Result<void> (*)(Parsed& parsed);

/// One flag. `value_name` is nullptr if it takes no value; a flag without `help` is not listed.
struct Flag {
    const char* name;
    const char* value_name;
    Apply apply;
    const char* help;
};

template <auto Member>
Result<void> set_text(Parsed& parsed) {
    parsed.arguments.*Member = parsed.value;
    return {};
}

template <auto Member>
Result<void> set_true(Parsed& parsed) {
    parsed.arguments.*Member = true;
    return {};
}

template <Task task>
Result<void> set_task(Parsed& parsed) {
    parsed.arguments.task = task;
    return {};
}

template <auto Member>
Result<void> set_number(Parsed& parsed) {
    uint64_t number = 0;
    const char* const end = parsed.value + strlen(parsed.value);
    const auto [stopped, error] = std::from_chars(parsed.value, end, number);
    if (error != std::errc() || stopped != end)
        return fail("The argument '%s' must be a whole number, not '%s'.", parsed.name, parsed.value);
    parsed.arguments.*Member = number;
    return {};
}

Result<void> set_id(Parsed& parsed) {
    TRY(config::check_instance_id(parsed.value));
    parsed.arguments.id = parsed.value;
    return {};
}

Result<void> set_level(Parsed& parsed) {
    parsed.arguments.logger.level = config::parse_log_level(parsed.value);
    if (!parsed.arguments.logger.level) parsed.arguments.bad_level = parsed.value;
    return {};
}

Result<void> describe(Parsed& parsed) {
    parsed.arguments.task = Task::kDescribeSnapshot;
    parsed.arguments.describe_snapshot = parsed.value;
    return {};
}

Result<void> refuse_pci(Parsed&) {
    return fail("The argument 'enable-pci' has no meaning: Wisp has no PCI transport, by design.");
}

template <auto Member>
Result<void> set_logger_text(Parsed& parsed) {
    parsed.arguments.logger.*Member = parsed.value;
    return {};
}

template <auto Member>
Result<void> set_logger_true(Parsed& parsed) {
    parsed.arguments.logger.*Member = true;
    return {};
}

/// Flags in the order of --help; an entry without `apply` is a heading.
constexpr Flag kFlags[] = {
    {"Machine", nullptr, nullptr, nullptr},
    {"id", "ID", set_id, "name of the microVM in logs: 1 to 64 letters, digits and hyphens [anonymous-instance]"},
    {"config-file", "FILE", set_text<&Arguments::config_file>,
     "machine file, TOML or JSON: the microVM starts at once"},
    {"metadata", "FILE", set_text<&Arguments::metadata>, "JSON that the guest finds in its metadata service (MMDS)"},
    {"mmds-size-limit", "BYTES", set_number<&Arguments::mmds_size_limit>,
     "bound of that data [http-api-max-payload-size]"},
    {"boot-timer", nullptr, set_true<&Arguments::boot_timer>,
     "log when the guest writes 123 to the boot timer at 0xc0000000"},
    {"timeline", nullptr, set_true<&Arguments::timeline>,
     "print when each step of the boot happened, when the VM ends"},

    {"API", nullptr, nullptr, nullptr},
    {"api-sock", "PATH", set_text<&Arguments::api_sock>, "Unix socket of the HTTP API [/run/firecracker.socket]"},
    {"no-api", nullptr, set_true<&Arguments::no_api>, "no API: needs --config-file"},
    {"http-api-max-payload-size", "BYTES", set_number<&Arguments::http_api_max_payload_size>,
     "bound of a request's body [51200]"},

    {"Logs and metrics", nullptr, nullptr, nullptr},
    {"log-path", "PATH", set_logger_text<&config::Logger::log_path>, "file or FIFO for the log [standard output]"},
    {"level", "LEVEL", set_level, "Off, Error, Warning, Info, Debug or Trace [Info]"},
    {"module", "PREFIX", set_logger_text<&config::Logger::module>, "only lines from source files whose path starts so"},
    {"show-level", nullptr, set_logger_true<&config::Logger::show_level>, "show the level in each line"},
    {"show-log-origin", nullptr, set_logger_true<&config::Logger::show_log_origin>,
     "show source file and line in each line"},
    {"metrics-path", "PATH", set_text<&Arguments::metrics_path>, "file or FIFO for metrics"},

    {"Confinement", nullptr, nullptr, nullptr},
    {"seccomp-filter", "FILE", set_text<&Arguments::seccomp_filter>,
     "compiled system call policy instead of the built-in one"},
    {"no-seccomp", nullptr, set_true<&Arguments::no_seccomp>, "no system call policy: for debugging only"},

    {"From the jailer", nullptr, nullptr, nullptr},
    {"start-time-us", "US", set_number<&Arguments::start_time_us>, "when the jailer started, monotonic clock"},
    {"start-time-cpu-us", "US", set_number<&Arguments::start_time_cpu_us>, "its CPU time then"},
    {"parent-cpu-time-us", "US", set_number<&Arguments::parent_cpu_time_us>, "CPU time the jailer took"},

    {"Print and leave", nullptr, nullptr, nullptr},
    {"help", nullptr, set_task<Task::kHelp>, "this text"},
    {"version", nullptr, set_task<Task::kVersion>, "the Firecracker version that Wisp stands in for, and Wisp's own"},
    {"snapshot-version", nullptr, set_task<Task::kSnapshotVersion>, "refused: this version has no snapshots"},
    {"describe-snapshot", "FILE", describe, "refused, likewise"},
    {"enable-pci", nullptr, refuse_pci, nullptr},
};

constexpr size_t kFlagCount = std::size(kFlags);

const Flag* find_flag(std::string_view name) {
    for (const Flag& flag : kFlags)
        if (flag.apply && name == flag.name) return &flag;
    return nullptr;
}

/// Firecracker's rule: with one of these, nothing else on the command line counts.
std::optional<Task> early_task(std::span<const char* const> words) {
    std::optional<Task> task;
    for (const char* word : words) {
        if (strcmp(word, "--") == 0) break;
        if (strcmp(word, "--help") == 0) return Task::kHelp;
        if (strcmp(word, "--version") == 0) task = Task::kVersion;
    }
    return task;
}

Result<void> check_together(const Arguments& arguments) {
    if (arguments.no_api && !arguments.config_file) return fail("Argument 'config-file' required, but not found.");
    if (arguments.no_seccomp && arguments.seccomp_filter)
        return fail("Argument 'seccomp-filter' cannot be used together with argument 'no-seccomp'.");
    return {};
}

}  // namespace

Result<Arguments> parse_arguments(std::span<const char* const> words) {
    Parsed parsed;
    if (const auto task = early_task(words)) {
        parsed.arguments.task = *task;
        return parsed.arguments;
    }
    bool seen[kFlagCount] = {};
    for (size_t i = 0; i < words.size(); ++i) {
        const char* const word = words[i];
        if (strcmp(word, "--") == 0) break;
        const bool dashed = strncmp(word, "--", 2) == 0;
        const std::string_view text = dashed ? word + 2 : word;
        const size_t equals = text.find('=');
        const Flag* const flag = dashed ? find_flag(text.substr(0, equals)) : nullptr;
        const bool has_value = equals != std::string_view::npos;
        if (!flag || (has_value && !flag->value_name))
            return fail("Found argument '%s' which wasn't expected, or isn't valid in this context.",
                        std::string(text).c_str());
        if (seen[flag - kFlags]) return fail("The argument '%s' was provided more than once.", flag->name);
        seen[flag - kFlags] = true;

        parsed.name = flag->name;
        parsed.value = nullptr;
        if (has_value) {
            parsed.value = word + 2 + equals + 1;
        } else if (flag->value_name) {
            if (i + 1 == words.size() || strncmp(words[i + 1], "--", 2) == 0)
                return fail("The argument '%s' requires a value, but none was supplied.", flag->name);
            parsed.value = words[++i];
        }
        TRY(flag->apply(parsed));
    }
    TRY(check_together(parsed.arguments));
    return std::move(parsed.arguments);
}

std::string help_text() {
    std::string out = format(
        "Wisp %s: one microVM on Linux KVM, with Firecracker's API (%s), flags and machine files.\n\n"
        "  wisp --config-file machine.toml --no-api     start what the file describes\n"
        "  wisp --api-sock /tmp/vm.sock                 wait for a client to configure and start it\n",
        kWispVersion, kFirecrackerVersion);
    for (const Flag& flag : kFlags) {
        if (!flag.apply) {
            out += format("\n%s\n", flag.name);
        } else if (flag.help) {
            const std::string left =
                format("--%s%s%s", flag.name, flag.value_name ? " " : "", flag.value_name ? flag.value_name : "");
            out += format("  %-34s %s\n", left.c_str(), flag.help);
        }
    }
    return out +
           "\nAlso as --name=value. What follows a bare -- is ignored. Exit codes: 0 the guest reset or powered off,\n"
           "1 failure, 148 a refused system call, 152 bad configuration, 153 bad command line. SIGTERM and SIGINT end "
           "it in\n"
           "order, and by that signal (a shell says 143 or 130).\n";
}

std::string version_text() {
    return format("Firecracker v%s\nWisp v%s\n", kFirecrackerVersion, kWispVersion);
}

}  // namespace wisp
