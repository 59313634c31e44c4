// SPDX-License-Identifier: Apache-2.0
#include "api/counters.h"

#include <catch2/catch.hpp>

#include "vmm/metrics/json.h"

using namespace wisp;
using namespace wisp::api;

namespace {

std::string flush(const Counters& counters, ReportedTotals& reported) {
    config::JsonWriter out;
    out.begin_object();
    {
        JsonMetrics metrics(out, reported);
        counters.visit(metrics);
    }
    out.end_object();
    return out.take();
}

}  // namespace

TEST_CASE("each flush has what was added since the one before, under Firecracker's names") {
    Counters counters;
    counters.count(Method::kGet, "instance_info", Response::json("{}"));
    counters.count(Method::kPut, "drive", Response::fault("no"));
    counters.count(Method::kPut, nullptr, Response::fault("no"));
    counters.count(Method::kDelete, "drive", Response::fault("no"));
    Response deprecated;
    deprecated.deprecated = true;
    counters.count(Method::kPatch, "machine_cfg", deprecated);
    ReportedTotals reported;
    const std::string first = flush(counters, reported);
    CHECK(first.starts_with(
        R"({"deprecated_api":{"deprecated_http_api_calls":1},"get_api_requests":{"instance_info_count":1,"machine_cfg_count":0,)"));
    CHECK(first.find(R"("drive_count":1,"drive_fails":1,"logger_count":0)") != std::string::npos);
    CHECK(first.find(R"("patch_api_requests":{"drive_count":0,"drive_fails":0)") != std::string::npos);
    CHECK(flush(counters, reported).find('1') == std::string::npos);
    CHECK(counters.total(Method::kPut, "drive", true) == 1);
}
