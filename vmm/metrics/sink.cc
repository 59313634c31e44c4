// SPDX-License-Identifier: Apache-2.0
#include "vmm/metrics/sink.h"

#include <time.h>
#include <unistd.h>

#include <cerrno>

#include "base/log.h"
#include "vmm/preflight.h"

namespace wisp {

Result<void> MetricsSink::open(const config::Metrics& wanted) {
    if (file_.valid()) return fail("Reinitialization of metrics not allowed.");
    file_ = TRY(open_line_file(wanted.metrics_path));
    wanted_ = wanted;
    return {};
}

void MetricsSink::start() {
    if (file_.valid()) on_timer();
}

void MetricsSink::on_timer() {
    if (auto flushed = flush(); !flushed) LOG_LIMITED("metrics: %s", flushed.error().message.c_str());
    timer_.arm(interval_ns_);
}

std::string MetricsSink::line() {
    timespec now{};
    clock_gettime(CLOCK_REALTIME, &now);
    config::JsonWriter out;
    out.begin_object();
    out.key("utc_timestamp_ms");
    out.number(static_cast<uint64_t>(now.tv_sec) * 1000 + static_cast<uint64_t>(now.tv_nsec) / 1'000'000);
    if (wanted_.emit_id) {
        out.key("id");
        out.string(instance_id_);
    }
    if (!wanted_.properties.empty()) {
        out.key("properties");
        out.begin_object();
        for (const auto& [name, value] : wanted_.properties) {
            out.key(name);
            out.string(value);
        }
        out.end_object();
    }
    {
        JsonMetrics metrics(out, reported_);
        visit_(metrics);
    }
    out.end_object();
    return out.take() + "\n";
}

/// False: the FIFO is full, or the file is broken.
bool MetricsSink::write_rest() {
    while (!rest_.empty()) {
        const ssize_t written = write(file_.get(), rest_.data(), rest_.size());
        if (written < 0 && errno == EINTR) continue;
        if (written < 0) return false;
        rest_.erase(0, static_cast<size_t>(written));
    }
    return true;
}

// A FIFO that nothing reads becomes full. If it took the beginning of a line, the rest of that line is written before
// the next line.
Result<void> MetricsSink::flush() {
    if (!file_.valid()) return {};
    bool taken = false;
    if (write_rest()) {
        rest_ = line();
        const size_t size = rest_.size();
        if (write_rest() || rest_.size() < size) taken = true;
        if (!taken) rest_.clear();
    }
    if (taken) return {};
    if (errno == EAGAIN) {
        ++missed_;
        return {};
    }
    ++failed_;
    rest_.clear();
    return fail("%s", os_error(errno).c_str());
}

}  // namespace wisp
