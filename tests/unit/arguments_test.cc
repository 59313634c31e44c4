// SPDX-License-Identifier: Apache-2.0
#include "wisp/arguments.h"

#include <catch2/catch.hpp>

#include <vector>

using namespace wisp;

namespace {

Result<Arguments> parse(std::vector<const char*> words) {
    return parse_arguments(words);
}

std::string fault(std::vector<const char*> words) {
    const auto result = parse(std::move(words));
    return result ? "ok" : result.error().message;
}

}  // namespace

TEST_CASE("without arguments the defaults are Firecracker's") {
    const auto arguments = parse({});
    REQUIRE(arguments);
    CHECK(arguments->task == Task::kRun);
    CHECK(arguments->api_sock == "/run/firecracker.socket");
    CHECK(arguments->id == "anonymous-instance");
    CHECK(arguments->http_api_max_payload_size == 51200);
    CHECK(arguments->mmds_limit() == 51200);
}

TEST_CASE("a flag takes its value as the next word or behind an equals sign") {
    const auto arguments =
        parse({"--id", "a-1", "--config-file=/m=x.toml", "--no-api", "--level", "warn", "--show-level",
               "--http-api-max-payload-size=100", "--start-time-us", "5", "--", "--nonsense"});
    if (!arguments) FAIL(arguments.error().message);
    CHECK(arguments->id == "a-1");
    CHECK(arguments->config_file == "/m=x.toml");
    CHECK(arguments->no_api);
    CHECK(arguments->logger.level == config::LogLevel::kWarning);
    CHECK(arguments->logger.show_level == true);
    CHECK_FALSE(arguments->logger.show_log_origin);
    CHECK(arguments->http_api_max_payload_size == 100);
    CHECK(arguments->mmds_limit() == 100);
    CHECK(arguments->start_time_us == 5);
}

TEST_CASE("what is wrong with a command line is told in Firecracker's words") {
    CHECK(fault({"--foo"}) == "Found argument 'foo' which wasn't expected, or isn't valid in this context.");
    CHECK(fault({"foo"}) == "Found argument 'foo' which wasn't expected, or isn't valid in this context.");
    CHECK(fault({"--no-api=1"}) == "Found argument 'no-api=1' which wasn't expected, or isn't valid in this context.");
    CHECK(fault({"--id"}) == "The argument 'id' requires a value, but none was supplied.");
    CHECK(fault({"--id", "--no-api"}) == "The argument 'id' requires a value, but none was supplied.");
    CHECK(fault({"--id", "a", "--id", "b"}) == "The argument 'id' was provided more than once.");
    CHECK(fault({"--no-api"}) == "Argument 'config-file' required, but not found.");
    CHECK(fault({"--no-seccomp", "--seccomp-filter", "x"}) ==
          "Argument 'seccomp-filter' cannot be used together with argument 'no-seccomp'.");
    CHECK(fault({"--id", "a b"}) == "Invalid instance ID: only letters, digits and hyphens may be in it, not ' '");
    CHECK(fault({"--id="}) == "Invalid instance ID: it has 0 characters, and must have 1 to 64");
    CHECK(fault({"--mmds-size-limit", "x"}) == "The argument 'mmds-size-limit' must be a whole number, not 'x'.");
    CHECK(parse({"--level", "loud"})->bad_level == "loud");
    CHECK(parse({"--level="})->bad_level == "");
    CHECK(fault({"--enable-pci"}).find("by design") != std::string::npos);
}

TEST_CASE("help and version win over everything else") {
    CHECK(parse({"--version", "--foo"})->task == Task::kVersion);
    CHECK(parse({"--version", "--help", "--foo"})->task == Task::kHelp);
    CHECK(parse({"--snapshot-version"})->task == Task::kSnapshotVersion);
    CHECK(parse({"--describe-snapshot", "/s"})->describe_snapshot == "/s");
    CHECK(version_text().starts_with("Firecracker v1."));
    CHECK(version_text().find("\nWisp v") != std::string::npos);
    CHECK(help_text().find("--config-file FILE") != std::string::npos);
}
