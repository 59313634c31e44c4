// SPDX-License-Identifier: Apache-2.0
#include "jailer/options.h"

#include <charconv>
#include <cstring>
#include <limits>
#include <string_view>

namespace wisp::jailer {

namespace {

// From Firecracker's API: an instance id, which is also a directory and a cgroup.
constexpr size_t kMaxIdLength = 64;

struct Flag {
    const char* name;
    bool takes_value;
    bool required;
    bool repeats;
    Result<void> (*apply)(Options&, std::string_view value);
};

template <class Number>
bool parse_decimal(std::string_view text, Number& out) {
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
    return error == std::errc() && end == text.data() + text.size();
}

bool is_id_character(char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-';
}

Result<void> set_id(Options& options, std::string_view value) {
    if (value.empty() || value.size() > kMaxIdLength)
        return fail("--id has %zu characters; it takes 1 to %zu", value.size(), kMaxIdLength);
    for (size_t i = 0; i < value.size(); ++i)
        if (!is_id_character(value[i]))
            return fail("--id has an unsuitable character at position %zu; it takes letters, digits and '-'", i);
    options.id = value;
    return {};
}

// The largest 32-bit number means "leave it as it is" to the kernel: taken for an id, the program would stay root.
Result<void> parse_owner(const char* flag, std::string_view value, uint32_t& out) {
    uint32_t number = 0;
    if (!parse_decimal(value, number) || number == std::numeric_limits<uint32_t>::max())
        return fail("%s %.*s is not a number from 0 to 4294967294", flag, static_cast<int>(value.size()), value.data());
    out = number;
    return {};
}

bool is_plain_component(std::string_view name) {
    return !name.empty() && name != "." && name != ".." && name.find('/') == std::string_view::npos;
}

Result<void> set_parent_cgroup(Options& options, std::string_view value) {
    for (std::string_view rest = value; !rest.empty();) {
        const size_t slash = rest.find('/');
        if (!is_plain_component(rest.substr(0, slash)))
            return fail("--parent-cgroup %.*s is not usable: it takes a relative path without '.', '..' or empty parts",
                        static_cast<int>(value.size()), value.data());
        rest = slash == std::string_view::npos ? std::string_view() : rest.substr(slash + 1);
    }
    options.parent_cgroup = std::string(value);
    return {};
}

Result<void> add_cgroup(Options& options, std::string_view value) {
    const size_t equals = value.find('=');
    const std::string_view file = value.substr(0, equals);
    const std::string_view setting = equals == std::string_view::npos ? "" : value.substr(equals + 1);
    const size_t dot = file.find('.');
    if (setting.empty() || setting.find('=') != std::string_view::npos || !is_plain_component(file) ||
        dot == std::string_view::npos || dot == 0)
        return fail("--cgroup %.*s is not of the form <controller>.<file>=<value>, as in cpu.shares=10",
                    static_cast<int>(value.size()), value.data());
    options.cgroups.push_back({std::string(file.substr(0, dot)), std::string(file), std::string(setting)});
    return {};
}

Result<void> set_cgroup_version(Options& options, std::string_view value) {
    if (value != "1" && value != "2")
        return fail("--cgroup-version %.*s does not exist: it takes 1 or 2", static_cast<int>(value.size()),
                    value.data());
    options.cgroup_version = value == "1" ? 1 : 2;
    return {};
}

Result<void> add_resource_limit(Options& options, std::string_view value) {
    const size_t equals = value.find('=');
    const std::string_view resource = value.substr(0, equals);
    uint64_t number = 0;
    if (equals == std::string_view::npos || (resource != "fsize" && resource != "no-file"))
        return fail("--resource-limit %.*s is not of the form fsize=<bytes> or no-file=<descriptors>",
                    static_cast<int>(value.size()), value.data());
    if (!parse_decimal(value.substr(equals + 1), number))
        return fail("--resource-limit %.*s: what follows '=' is not a number", static_cast<int>(value.size()),
                    value.data());
    if (resource == "fsize")
        options.limits.file_size_bytes = number;
    else
        options.limits.open_files = number;
    return {};
}

// Bytes that the kernel would cut a path at, or that would name nothing, are refused where a path is read.
Result<void> parse_path(const char* flag, std::string_view value, std::string& out) {
    if (value.empty()) return fail("%s is empty; it takes a path", flag);
    out = value;
    return {};
}

constexpr Flag kFlags[] = {
    {"id", true, true, false, set_id},
    {"exec-file", true, true, false,
     [](Options& o, std::string_view v) { return parse_path("--exec-file", v, o.exec_file); }},
    {"uid", true, true, false, [](Options& o, std::string_view v) { return parse_owner("--uid", v, o.uid); }},
    {"gid", true, true, false, [](Options& o, std::string_view v) { return parse_owner("--gid", v, o.gid); }},
    {"chroot-base-dir", true, false, false,
     [](Options& o, std::string_view v) { return parse_path("--chroot-base-dir", v, o.chroot_base_dir); }},
    {"netns", true, false, false,
     [](Options& o, std::string_view v) { return parse_path("--netns", v, o.netns.emplace()); }},
    {"daemonize", false, false, false, [](Options& o, std::string_view) { return o.daemonize = true, Result<void>(); }},
    {"new-pid-ns", false, false, false,
     [](Options& o, std::string_view) { return o.new_pid_ns = true, Result<void>(); }},
    {"cgroup", true, false, true, add_cgroup},
    {"cgroup-version", true, false, false, set_cgroup_version},
    {"parent-cgroup", true, false, false, set_parent_cgroup},
    {"resource-limit", true, false, true, add_resource_limit},
    {"help", false, false, false, nullptr},
    {"version", false, false, false, nullptr},
};
constexpr size_t kFlagCount = std::size(kFlags);

const Flag* find_flag(std::string_view argument) {
    if (!argument.starts_with("--")) return nullptr;
    argument.remove_prefix(2);
    for (const Flag& flag : kFlags)
        if (argument.substr(0, argument.find('=')) == flag.name) return &flag;
    return nullptr;
}

// `--help` and `--version` answer even when the rest of the line is wrong: that is when they are asked for.
Options::Request find_request(int argc, const char* const* argv) {
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; ++i) {
        if (strcmp(argv[i], "--help") == 0) return Options::Request::kHelp;
        if (strcmp(argv[i], "--version") == 0) return Options::Request::kVersion;
    }
    return Options::Request::kJail;
}

// The value of the flag at argv[index]: after its '=', or the next argument, which `index` is then moved to.
Result<std::string_view> take_value(const Flag& flag, int argc, const char* const* argv, int& index) {
    const std::string_view argument = argv[index];
    const size_t equals = argument.find('=');
    if (!flag.takes_value) {
        if (equals != std::string_view::npos) return fail("--%s takes no value", flag.name);
        return std::string_view();
    }
    if (equals != std::string_view::npos) return argument.substr(equals + 1);
    if (index + 1 >= argc || strcmp(argv[index + 1], "--") == 0) return fail("--%s needs a value", flag.name);
    return std::string_view(argv[++index]);
}

}  // namespace

Result<Options> parse_options(int argc, const char* const* argv) {
    Options options;
    options.request = find_request(argc, argv);
    if (options.request != Options::Request::kJail) return options;

    bool seen[kFlagCount] = {};
    int i = 1;
    for (; i < argc && strcmp(argv[i], "--") != 0; ++i) {
        const Flag* flag = find_flag(argv[i]);
        if (!flag) return fail("%s is not an argument of the jailer; --help lists them", argv[i]);
        bool& given = seen[flag - kFlags];
        if (given && !flag->repeats) return fail("--%s was given more than once", flag->name);
        given = true;
        TRY(flag->apply(options, TRY(take_value(*flag, argc, argv, i))));
    }
    for (++i; i < argc; ++i) options.program_arguments.emplace_back(argv[i]);

    for (const Flag& flag : kFlags)
        if (flag.required && !seen[&flag - kFlags])
            return fail("--%s is missing; the jailer cannot do without it", flag.name);
    return options;
}

const char kHelpText[] =
    "wisp-jailer starts a microVM monitor in a jail of its own. It needs root.\n"
    "\n"
    "Required:\n"
    "  --id <id>                   name of the jail: 1 to 64 letters, digits and '-'\n"
    "  --exec-file <path>          the monitor; copied into the jail, so it has to be linked statically\n"
    "  --uid <number>              user that the monitor runs as\n"
    "  --gid <number>              group that the monitor runs as\n"
    "\n"
    "Optional:\n"
    "  --chroot-base-dir <dir>     where jails lie: <dir>/<name of exec-file>/<id>/root [/srv/jailer]\n"
    "  --netns <path>              network namespace to join\n"
    "  --new-pid-ns                run the monitor as process 1 of a new pid namespace\n"
    "  --daemonize                 detach from the terminal; standard streams become /dev/null\n"
    "  --cgroup <file>=<value>     set this cgroup file, e.g. cpu.shares=10; may be repeated\n"
    "  --cgroup-version <1|2>      cgroup hierarchy that --cgroup means [1]\n"
    "  --parent-cgroup <path>      cgroup to make the jail's cgroup in [name of exec-file]\n"
    "  --resource-limit <r>=<n>    fsize=<bytes> of a file it writes, or no-file=<descriptors> [no-file=2048];\n"
    "                              may be repeated\n"
    "  --version                   print the version\n"
    "  --help                      print this text\n"
    "\n"
    "What follows `--` is handed to the monitor.\n"
    "The monitor keeps no capability, gains none by executing a file, and under Landlock executes only itself,\n"
    "makes no device node and uses no TCP.\n";

}  // namespace wisp::jailer
