// SPDX-License-Identifier: Apache-2.0
//
// wisp-jailer: puts a monitor into a jail and becomes it. See jail.cc for the story.
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "base/fd.h"
#include "jailer/jail.h"

namespace {

// Clients read the first line: the Firecracker that is stood in for. The second is Wisp's own version.
constexpr char kVersionText[] = "Jailer v1.17.0\nWisp v0.1.0\n";

int print(const char* text) {
    return wisp::write_all(STDOUT_FILENO, text, strlen(text), "stdout") ? 0 : EXIT_FAILURE;
}

int report(const wisp::Error& error) {
    const std::string line = "wisp-jailer: " + error.message + "\n";
    // Nothing can be said about an error that cannot be said; the exit code still is.
    [[maybe_unused]] const auto written = wisp::write_all(STDERR_FILENO, line.data(), line.size(), "stderr");
    return EXIT_FAILURE;
}

}  // namespace

int main(int argc, char** argv) {
    using wisp::jailer::Options;
    const auto options = wisp::jailer::parse_options(argc, argv);
    if (!options) return report(options.error());
    if (options->request == Options::Request::kHelp) return print(wisp::jailer::kHelpText);
    if (options->request == Options::Request::kVersion) return print(kVersionText);
    if (const auto done = wisp::jailer::run_in_jail(*options); !done) return report(done.error());
    return 0;
}
