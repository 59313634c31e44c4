// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <catch2/catch.hpp>

#include "tests/support/temp_file.h"
#include "vmm/config/json.h"
#include "vmm/metrics/prometheus.h"
#include "vmm/metrics/sink.h"

using namespace wisp;

TEST_CASE("a latency falls into the bucket whose upper bound is the first not below it") {
    CHECK(Latency::bucket_of(0) == 0);
    CHECK(Latency::bucket_of(2'000) == 0);
    CHECK(Latency::bucket_of(2'001) == 1);
    CHECK(Latency::bucket_of(4'000) == 1);
    CHECK(Latency::bucket_of(4'001) == 2);
    for (unsigned i = 0; i + 1 < Latency::kBuckets; ++i) {
        CHECK(Latency::bucket_of(Latency::upper_bound_us(i) * 1000) == i);
        CHECK(Latency::bucket_of(Latency::upper_bound_us(i) * 1000 + 1) == i + 1);
    }
    CHECK(Latency::bucket_of(UINT64_MAX - 1000) == Latency::kBuckets - 1);
}

TEST_CASE("latencies add up") {
    Latency a, b, sum;
    a.record(5'000);
    a.record(1'500);
    b.record(9'000'000);
    sum.add(a);
    sum.add(Latency{});
    sum.add(b);
    CHECK(sum.summary().min_us == 1);
    CHECK(sum.summary().max_us == 9000);
    CHECK(sum.summary().sum_us == 9006);
    CHECK(sum.summary().count == 3);
    CHECK(sum.sum_ns() == 9'006'500);
}

TEST_CASE("Prometheus: samples of one name stand together, sums of devices are left to the reader") {
    PrometheusMetrics page;
    Latency reads;
    reads.record(3'000);
    for (const char* id : {"a", "b"}) {
        page.group_of("block", id);
        page.count("read_count", 7);
        page.latency("read_agg", reads);
    }
    page.group_of_all("block");
    page.count("read_count", 14);
    page.latency("read_agg", reads);
    page.latency("write_agg", LatencySummary{1, 2, 3, 2});
    page.group("logger");
    page.count("metrics_fails", 0);
    page.value("now", 5);
    page.latency("flush_agg", LatencySummary{1, 2, 3, 2});
    page.group("latencies_us");
    page.value("pause_vm", 1'500'000);
    page.group("api_server");
    page.value("process_startup_time_us", 7);
    const std::string text = page.text();
    CHECK(text.starts_with(
        "# HELP wisp_block_read_total Firecracker's block.read_count\n"
        "# TYPE wisp_block_read_total counter\nwisp_block_read_total{id=\"a\"} 7\nwisp_block_read_total{id=\"b\"} 7\n"
        "# HELP wisp_block_read_seconds Firecracker's block.read_agg\n"
        "# TYPE wisp_block_read_seconds histogram\nwisp_block_read_seconds_bucket{id=\"a\",le=\"0.000002000\"} 0\n"
        "wisp_block_read_seconds_bucket{id=\"a\",le=\"0.000004000\"} 1\n"));
    CHECK(text.find("wisp_block_read_seconds_bucket{id=\"a\",le=\"+Inf\"} 1\nwisp_block_read_seconds_sum{id=\"a\"} "
                    "0.000003000\n") != std::string::npos);
    CHECK(text.find(" 14\n") == std::string::npos);
    const auto has = [&](const char* part) { return text.find(part) != std::string::npos; };
    CHECK(has("# TYPE wisp_logger_metrics_fails_total counter\nwisp_logger_metrics_fails_total 0\n"));
    CHECK(has("# TYPE wisp_logger_now gauge\nwisp_logger_now 5\n"));
    CHECK(
        has("# TYPE wisp_logger_flush_seconds summary\nwisp_logger_flush_seconds_sum 0.000003000\n"
            "wisp_logger_flush_seconds_count 2\n"));
    // Firecracker's microseconds become seconds, which is what Prometheus wants.
    CHECK(has("# TYPE wisp_latencies_pause_vm_seconds gauge\nwisp_latencies_pause_vm_seconds 1.500000000\n"));
    CHECK(text.ends_with("\nwisp_api_server_process_startup_time_seconds 0.000007000\n"));
}

namespace {

struct Rig {
    std::unique_ptr<Loop> loop = *Loop::create();
    test::TempFile file{std::string_view()};
    uint64_t counted = 0;
    MetricsSink sink{*loop, "vm-1",
                     [this](JsonMetrics& line) {
                         line.group("g");
                         line.count("counted", counted);
                     },
                     2'000'000};
    std::string text() const {
        std::string all(65536, '\0');
        const OwnedFd fd(open(file.path().c_str(), O_RDONLY));
        all.resize(static_cast<size_t>(read(fd.get(), all.data(), all.size())));
        return all;
    }
    size_t lines() const {
        const std::string all = text();
        return static_cast<size_t>(std::count(all.begin(), all.end(), '\n'));
    }
};

}  // namespace

TEST_CASE("the metrics timer writes a line at the start and at each interval") {
    Rig rig;
    rig.sink.start();  // without a file: nothing
    REQUIRE(rig.sink.open({rig.file.path(), false, {}}));
    rig.counted = 3;
    rig.sink.start();
    CHECK(rig.lines() == 1);
    rig.counted = 5;
    while (rig.lines() < 4) REQUIRE(rig.loop->turn(1'000'000'000));
    CHECK(rig.text().find(R"("g":{"counted":3}})") != std::string::npos);
    CHECK(rig.text().find(R"("g":{"counted":2}})") != std::string::npos);
    CHECK(rig.text().find(R"("g":{"counted":0}})") != std::string::npos);
    CHECK(rig.sink.missed() == 0);
}

TEST_CASE("a FIFO that takes half a line gets the other half before the next line") {
    Rig rig;
    const std::string path = rig.file.path() + ".fifo";
    REQUIRE(mkfifo(path.c_str(), 0600) == 0);
    REQUIRE(rig.sink.open({path, true, {{"a", std::string(3000, 'x')}}}));
    while (rig.sink.missed() == 0) REQUIRE(rig.sink.flush());
    std::string text(1 << 20, '\0');
    const OwnedFd reader(open(path.c_str(), O_RDONLY | O_NONBLOCK));
    size_t size = 0;
    for (int i = 0; i < 2; ++i) {
        for (ssize_t got; (got = read(reader.get(), text.data() + size, text.size() - size)) > 0;)
            size += static_cast<size_t>(got);
        REQUIRE(rig.sink.flush());
    }
    unlink(path.c_str());
    text.resize(size);
    size_t whole = 0;
    for (size_t start = 0, end; (end = text.find('\n', start)) != std::string::npos; start = end + 1, ++whole)
        REQUIRE(config::parse_json_strict(text.substr(start, end - start)));
    CHECK(whole > 10);
}

TEST_CASE("a sink that refuses is an error of the flush, and counted") {
    Rig rig;
    REQUIRE(rig.sink.open({"/dev/full", false, {}}));
    CHECK_FALSE(rig.sink.flush());
    CHECK(rig.sink.failed() == 1);
}
