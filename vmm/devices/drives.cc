// SPDX-License-Identifier: Apache-2.0
#include "vmm/devices/drives.h"

#include "base/log.h"
#include "vmm/preflight.h"

namespace wisp {

namespace {

using virtio::BlockCounters;

constexpr struct {
    const char* key;
    Counter BlockCounters::* counter;  // null: cannot happen here
} kKeys[] = {
    {"activate_fails", &BlockCounters::activate_fails},
    {"cfg_fails", nullptr},  // a driver has nothing to configure
    {"no_avail_buffer", &BlockCounters::no_avail_buffer},
    {"event_fails", nullptr},  // an eventfd that is watched does not fail
    {"execute_fails", &BlockCounters::execute_fails},
    {"invalid_reqs_count", &BlockCounters::invalid_reqs_count},
    {"flush_count", &BlockCounters::flush_count},
    {"queue_event_count", &BlockCounters::queue_event_count},
    {"rate_limiter_event_count", &BlockCounters::rate_limiter_event_count},
    {"update_count", &BlockCounters::update_count},
    {"update_fails", &BlockCounters::update_fails},
    {"read_bytes", &BlockCounters::read_bytes},
    {"write_bytes", &BlockCounters::write_bytes},
    {"read_count", &BlockCounters::read_count},
    {"write_count", &BlockCounters::write_count},
    {"rate_limiter_throttled_events", &BlockCounters::rate_limiter_throttled_events},
    {"io_engine_throttled_events", &BlockCounters::io_engine_throttled_events},
    {"remaining_reqs_count", &BlockCounters::remaining_reqs_count},
};

void visit(const BlockCounters& counters, MetricsVisitor& visitor) {
    for (const auto& [key, counter] : kKeys) visitor.count(key, counter ? (counters.*counter).value() : 0);
    visitor.latency("read_agg", counters.read_agg);
    visitor.latency("write_agg", counters.write_agg);
}

void add(BlockCounters& sum, const BlockCounters& part) {
    for (const auto& [key, counter] : kKeys)
        if (counter) sum.*counter += part.*counter;
    sum.read_agg.add(part.read_agg);
    sum.write_agg.add(part.write_agg);
}

virtio::BlockConfig block_config_of(const config::Drive& drive, const virtio::ThreadSetup& confine_thread) {
    virtio::BlockConfig block;
    block.id = drive.drive_id;
    block.path = drive.path_on_host;
    block.read_only = drive.is_read_only;
    block.cache_type = drive.cache_type;
    block.io_engine = drive.io_engine;
    block.host_cache = drive.direct ? virtio::BlockFile::Cache::kDirect : virtio::BlockFile::Cache::kPageCache;
    if (drive.rate_limiter) block.rate_limiter = *drive.rate_limiter;
    block.confine_thread = confine_thread;
    return block;
}

}  // namespace

Result<void> Drives::create(Loop& loop, const std::vector<config::Drive>& configured,
                            const virtio::ThreadSetup& confine_thread, const AddDevice& add_device) {
    for (const config::Drive& drive : configured) {
        auto device = TRY(virtio::Block::create(loop, block_config_of(drive, confine_thread)));
        drives_.push_back({drive.drive_id, device.get()});
        TRY(add_device(std::move(device)));
    }
    return {};
}

void Drives::start_writers() {
    for (const Drive& drive : drives_) drive.device->start_writer();
}

void Drives::close() {
    const uint64_t deadline_ns = monotonic_ns() + limits::kBlockClose_ns;
    // All at once: a drive that hangs takes no time from the others.
    std::vector<virtio::Block*> open;
    for (const Drive& drive : drives_) {
        drive.device->begin_close();
        open.push_back(drive.device);
    }
    while (!open.empty() && monotonic_ns() < deadline_ns)
        std::erase_if(open, [](virtio::Block* drive) { return drive->is_closed(); });
    for (virtio::Block* drive : open) drive->end_close();
}

Result<void> Drives::patch(const config::DrivePatch& patch) {
    for (const Drive& drive : drives_) {
        if (drive.id != patch.drive_id) continue;
        if (patch.path_on_host) {
            TRY(check_new_drive_file(*patch.path_on_host));
            TRY(drive.device->replace_file(*patch.path_on_host, [id = drive.id](Result<void> done) {
                if (!done)
                    LOG_ERROR("drive %s: its new file is not in use: %s", id.c_str(), done.error().message.c_str());
            }));
        }
        if (patch.rate_limiter) drive.device->update_rate_limiter(*patch.rate_limiter);
        return {};
    }
    return fail("drive %s does not exist", patch.drive_id.c_str());
}

void Drives::visit_metrics(MetricsVisitor& visitor) const {
    BlockCounters all;
    for (const Drive& drive : drives_) {
        const BlockCounters& counters = drive.device->counters();
        visitor.group_of("block", drive.id);
        visit(counters, visitor);
        add(all, counters);
    }
    visitor.group_of_all("block");
    visit(all, visitor);
}

}  // namespace wisp
