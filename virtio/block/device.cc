// SPDX-License-Identifier: Apache-2.0
//
// A drive's life: its file and engine, its configuration space, activation, reset, pause, replacement of the file and
// the end. serve.cc has the requests, state.cc what is saved.
#include "virtio/block/device.h"

#include <linux/virtio_blk.h>

#include "base/check.h"
#include "base/log.h"
#include "virtio/block/pool.h"

namespace wisp::virtio {

namespace {

constexpr int64_t kCloseLook_ns = 10'000'000;

}  // namespace

// ---- construction ----

Block::Block(Loop& loop, BlockConfig config)
    : loop_(loop),
      config_(std::move(config)),
      name_("drive " + config_.id),
      queue_sizes_(config_.queues, limits::kMaxQueueSize),
      rate_limiter_(loop,
                    [this] {
                        ++counters_.rate_limiter_event_count;
                        serve_all();
                    }),
      queues_(loop, *this),
      retry_timer_(loop, [this] { retry(); }) {
    done_.reserve(limits::kBlockInFlight);
}

Block::~Block() = default;

Result<std::unique_ptr<Block>> Block::create(Loop& loop, BlockConfig config, const EngineFactory& engine) {
    CHECK(config.queues >= 1 && config.queues <= limits::kBlockQueues);
    std::unique_ptr<Block> block(new Block(loop, std::move(config)));
    TRY_CONTEXT(block->name_, block->open());
    TRY_CONTEXT(block->name_, block->start_engine(engine));
    return block;
}

Result<void> Block::open() {
    const auto access = config_.read_only ? BlockFile::Access::kReadOnly : BlockFile::Access::kReadWrite;
    file_ = TRY(BlockFile::open(config_.path, access, config_.host_cache, name_.c_str()));
    pool_ = TRY(Pool::create());
    rate_limiter_.update(config_.rate_limiter);
    block_size_ = file_.block_size;

    auto offer = [this](unsigned bit) { features_ |= 1ull << bit; };
    offer(VIRTIO_BLK_F_SEG_MAX);
    offer(VIRTIO_BLK_F_SIZE_MAX);
    if (config_.read_only) offer(VIRTIO_BLK_F_RO);
    if (config_.cache_type == CacheType::kWriteback) offer(VIRTIO_BLK_F_FLUSH);
    if (config_.queues > 1) offer(VIRTIO_BLK_F_MQ);
    if (!config_.read_only && file_.can_punch_holes()) {
        offer(VIRTIO_BLK_F_DISCARD);
        offer(VIRTIO_BLK_F_WRITE_ZEROES);
    }
    if (config_.host_cache == BlockFile::Cache::kDirect) {
        offer(VIRTIO_BLK_F_BLK_SIZE);
        offer(VIRTIO_BLK_F_TOPOLOGY);
    }
    set_limits();
    return {};
}

void Block::set_limits() {
    sectors_ = file_.sectors;
    limits_.sectors = file_.sectors;
    limits_.read_only = config_.read_only;
    limits_.max_range_sectors = limits::kBlockRangeSectors;
    limits_.max_request_bytes = limits::kBlockRequestBytes;
}

Result<void> Block::start_engine(const EngineFactory& factory) {
    if (factory) {
        io_ = TRY(factory(loop_, *this, limits::kBlockInFlight));
    } else if (auto engine = create_uring_block_io(loop_, *this, limits::kBlockInFlight, config_.confine_thread)) {
        io_ = *std::move(engine);
    } else {
        LOG_WARNING("%s: its transfers are made by a thread: %s", name_.c_str(), engine.error().message.c_str());
        io_ = TRY(create_thread_block_io(loop_, *this, config_.confine_thread));
    }
    return io_->set_file(file_);
}

void Block::start_writer() {
    if (auto started = io_->start_writer(); !started)
        LOG_WARNING("%s: writes are slower: %s", name_.c_str(), started.error().message.c_str());
}

// ---- what the driver sees ----

uint64_t Block::features() const {
    return features_;
}

std::span<const uint16_t> Block::queue_max_sizes() const {
    return queue_sizes_;
}

void Block::read_config(uint32_t offset, std::span<std::byte> data) {
    virtio_blk_config space{};
    space.capacity = sectors_;
    space.size_max = limits::kBlockSegmentSize;
    space.seg_max = limits::kBlockSegments;
    space.blk_size = block_size_;
    space.min_io_size = 1;  // in blocks
    space.num_queues = static_cast<uint16_t>(queue_sizes_.size());
    space.max_discard_sectors = space.max_write_zeroes_sectors = limits::kBlockRangeSectors;
    space.max_discard_seg = space.max_write_zeroes_seg = 1;
    space.discard_sector_alignment = limits::kPageSize / kSectorSize;
    space.write_zeroes_may_unmap = 1;
    copy_config(space, offset, data);
}

// ---- life ----

Result<void> Block::activate(Activation activation) {
    auto negotiated = [&](unsigned bit) { return (activation.features & (1ull << bit)) != 0; };
    limits_.flush = negotiated(VIRTIO_BLK_F_FLUSH);
    limits_.discard = negotiated(VIRTIO_BLK_F_DISCARD);
    limits_.write_zeroes = negotiated(VIRTIO_BLK_F_WRITE_ZEROES);
    limits_.max_segment_bytes = negotiated(VIRTIO_BLK_F_SIZE_MAX) ? limits::kBlockSegmentSize : UINT32_MAX;
    queues_.activate(activation);
    return {};
}

void Block::on_kick(unsigned queue) {
    ++counters_.queue_event_count;
    if (may_serve() && !queues_[queue].has_available()) ++counters_.no_avail_buffer;
    serve(queue);
}

void Block::reset(std::move_only_function<void()> drained) {
    queues_.start_drain();
    on_reset_drained_ = std::move(drained);
    publish_completions();
}

void Block::pause(std::move_only_function<void()> paused) {
    queues_.pause();
    on_paused_ = std::move(paused);
    publish_completions();
}

void Block::resume() {
    queues_.resume();
    serve_all();
}

void Block::update_rate_limiter(const RateLimiterConfig& config) {
    rate_limiter_.update(config);
}

Result<void> Block::replace_file(const std::string& path, std::move_only_function<void(Result<void>)> done) {
    ++counters_.update_count;
    ++counters_.update_fails;  // taken back below
    if (replacement_) return fail("%s: an earlier replacement of its file is not done yet", name_.c_str());
    const auto access = config_.read_only ? BlockFile::Access::kReadOnly : BlockFile::Access::kReadWrite;
    BlockFile file = TRY_CONTEXT(name_, BlockFile::open(path, access, config_.host_cache, name_.c_str()));
    replacement_.emplace(path, std::move(file), std::move(done));
    --counters_.update_fails;
    publish_completions();
    return {};
}

// Nothing is in flight.
void Block::switch_file() {
    Replacement replacement = std::move(*replacement_);
    replacement_.reset();
    std::swap(file_, replacement.file);
    Result<void> switched = io_->set_file(file_);
    if (switched) {
        config_.path = replacement.path;
        // The driver knows one block size for good; what is not aligned to a larger one goes through the page cache.
        if (queues_.activated())
            queues_.interrupt().change_config([this] { set_limits(); });
        else
            set_limits();
    } else {
        ++counters_.update_fails;
        std::swap(file_, replacement.file);
        CHECK(io_->set_file(file_).has_value());
    }
    replacement.done(std::move(switched));
    serve_all();
}

// Calls those who wait until nothing is in flight.
void Block::end_drains() {
    if (pool_->in_use() > 0) return;
    if (on_reset_drained_) {
        queues_.deactivate();
        starved_ = false;
        std::exchange(on_reset_drained_, nullptr)();
    }
    if (replacement_) switch_file();
    if (on_paused_ && pool_->in_use() == 0) std::exchange(on_paused_, nullptr)();
}

void Block::close(uint64_t deadline_ns) {
    begin_close();
    while (!is_closed() && monotonic_ns() < deadline_ns) continue;
    end_close();
}

void Block::begin_close() {
    closed_ = true;
    retry_timer_.cancel();
}

bool Block::is_closed() {
    if (pool_->in_use() != 0 || (final_flush_queued_ && !final_flush_done_)) {
        io_->wait(kCloseLook_ns);
        retry();
    }
    if (pool_->in_use() != 0) return false;
    if (config_.cache_type != CacheType::kWriteback || config_.read_only) return true;
    if (!std::exchange(final_flush_queued_, true)) {
        final_flush_.kind = BlockTransfer::Kind::kFlush;
        io_->queue(final_flush_);
        io_->submit();
    }
    return final_flush_done_;
}

void Block::end_close() {
    if (pool_->in_use() != 0)
        LOG_WARNING("%s: the end of the machine does not wait for %u requests that the host has not done on %s",
                    name_.c_str(), pool_->in_use(), config_.path.c_str());
    else if (final_flush_queued_ && !final_flush_done_)
        LOG_WARNING("%s: the end of the machine does not wait until the host has flushed %s", name_.c_str(),
                    config_.path.c_str());
}

}  // namespace wisp::virtio
