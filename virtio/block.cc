// SPDX-License-Identifier: Apache-2.0
#include "virtio/block.h"

#include <fcntl.h>
#include <linux/virtio_blk.h>
#include <sys/stat.h>

#include <array>
#include <cstring>
#include <new>

#include "base/check.h"
#include "base/log.h"
#include "base/mapping.h"
#include "virtio/cursor.h"

namespace wisp::virtio {

namespace {

constexpr uint16_t kQueueSizes[] = {limits::kMaxQueueSize};

// A chain may spread its header and status byte over as many segments again as they have bytes.
constexpr unsigned kSegments = limits::kBlockSegments + sizeof(virtio_blk_outhdr) + 1;

BlockTransfer::Kind transfer_kind(const BlockRequest& request) {
    switch (request.type) {
        case BlockRequest::Type::kRead: return BlockTransfer::Kind::kRead;
        case BlockRequest::Type::kWrite: return BlockTransfer::Kind::kWrite;
        case BlockRequest::Type::kFlush: return BlockTransfer::Kind::kFlush;
        case BlockRequest::Type::kDiscard: return BlockTransfer::Kind::kDiscard;
        case BlockRequest::Type::kWriteZeroes:
            return request.unmap == BlockRequest::Unmap::kYes ? BlockTransfer::Kind::kWriteZeroesUnmap
                                                              : BlockTransfer::Kind::kWriteZeroes;
        case BlockRequest::Type::kGetId: break;
    }
    CHECK(false);
    __builtin_unreachable();
}

bool changes_data(BlockTransfer::Kind kind) { return kind != BlockTransfer::Kind::kRead && kind != BlockTransfer::Kind::kFlush; }

}  // namespace

/// One request from pop to push.
struct Block::Request : BlockTransfer {
    Chain chain;
    unsigned queue = 0;
    GuestSlice status;
    uint64_t sequence = 0;        // order of arrival
    uint64_t to_fill = 0;         // bytes of the chain's writable segments before the status byte
    uint64_t filled = 0;          // of these, from the front
    unsigned retries = 0;
    unsigned writes_before = 0;   // of a flush: earlier writes that are not complete
    Request* next_request = nullptr;  // in the pool's free list, or among the flushes that wait
    std::array<GuestSlice, kSegments> segments;
};

class Block::Pool {
public:
    static Result<std::unique_ptr<Pool>> create() {
        std::unique_ptr<Pool> pool(new Pool);
        pool->memory_ = TRY(Mapping::anonymous(limits::kBlockInFlight * sizeof(Request), limits::kPageSize, 0,
                                               "a drive's requests"));
        return pool;
    }
    ~Pool() {
        for (unsigned i = 0; i < made_; ++i) {
            at(i)->chain.abandon();
            at(i)->~Request();
        }
    }
    Request* take() {
        if (empty()) return nullptr;
        ++in_use_;
        if (free_) return std::exchange(free_, free_->next_request);
        return new (at(made_++)) Request;
    }
    void give_back(Request& request) {
        request.next_request = std::exchange(free_, &request);
        --in_use_;
    }
    unsigned in_use() const { return in_use_; }
    bool empty() const { return !free_ && made_ == limits::kBlockInFlight; }

    uint64_t next_sequence = 0;
    unsigned writes = 0;                // requests in use that change data
    Request* waiting_flushes = nullptr;

private:
    Request* at(unsigned index) const { return reinterpret_cast<Request*>(memory_.data()) + index; }

    // Requests are made when they are first taken, and used again before a new one is: a shallow queue touches few pages.
    Mapping memory_;
    unsigned made_ = 0;
    Request* free_ = nullptr;
    unsigned in_use_ = 0;
};

// ---- construction ----

Block::Block(Loop& loop, BlockConfig config)
    : loop_(loop), config_(std::move(config)), name_("drive " + config_.id), engine_(config_.io_engine) {}

Block::~Block() = default;

Result<std::unique_ptr<Block>> Block::create(Loop& loop, BlockConfig config) {
    std::unique_ptr<Block> block(new Block(loop, std::move(config)));
    TRY_CONTEXT(block->name_, block->open());
    TRY_CONTEXT(block->name_, block->start_engine());
    return block;
}

Result<void> Block::open() {
    // Before opening: to open a FIFO would wait for its other end.
    struct stat info{};
    if (stat(config_.path.c_str(), &info) < 0) return fail_errno("cannot use %s", config_.path.c_str());
    if (!S_ISREG(info.st_mode) && !S_ISBLK(info.st_mode))
        return fail("%s is neither a regular file nor a block device", config_.path.c_str());
    file_ = TRY(open_file(config_.path, config_.read_only ? O_RDONLY : O_RDWR));
    if (fstat(file_.get(), &info) < 0) return fail_errno("cannot use %s", config_.path.c_str());

    const uint64_t size = TRY(file_size(file_.get(), config_.path));
    if (size % kSectorSize != 0)
        LOG_WARNING("%s: the size of %s, %lu bytes, is no multiple of %u: the guest will not see the last %lu bytes",
                    name_.c_str(), config_.path.c_str(), size, kSectorSize, size % kSectorSize);
    if (size < kSectorSize) return fail("%s is empty: a drive has at least one sector of %u bytes", config_.path.c_str(), kSectorSize);
    sectors_ = size / kSectorSize;
    // The serial number that Firecracker gives: guests find their disks by it.
    device_id_ = format("%lu%lu%lu", info.st_dev, info.st_rdev, info.st_ino);
    device_id_.resize(VIRTIO_BLK_ID_BYTES);
    limits_ = {.sectors = sectors_, .read_only = config_.read_only};
    pool_ = TRY(Pool::create());
    return {};
}

Result<void> Block::start_engine() {
    if (engine_ == BlockConfig::IoEngine::kAsync) {
        if (auto engine = create_uring_block_io(loop_, *this, limits::kBlockInFlight)) {
            io_ = *std::move(engine);
        } else {
            LOG_WARNING("%s: io_engine Sync instead of Async: %s", name_.c_str(), engine.error().message.c_str());
            engine_ = BlockConfig::IoEngine::kSync;
        }
    }
    if (!io_) io_ = create_sync_block_io(*this);
    return io_->set_file(file_.get());
}

// ---- what the driver sees ----

uint64_t Block::features() const {
    uint64_t features = 1ull << VIRTIO_BLK_F_SEG_MAX | 1ull << VIRTIO_BLK_F_SIZE_MAX;
    if (config_.read_only) features |= 1ull << VIRTIO_BLK_F_RO;
    if (config_.cache_type == BlockConfig::CacheType::kWriteback) features |= 1ull << VIRTIO_BLK_F_FLUSH;
    return features;
}

std::span<const uint16_t> Block::queue_max_sizes() const { return kQueueSizes; }

void Block::read_config(uint32_t offset, std::span<std::byte> data) {
    virtio_blk_config space{};
    space.capacity = sectors_;
    space.size_max = limits::kBlockSegmentSize;
    space.seg_max = limits::kBlockSegments;
    const auto bytes = std::as_bytes(std::span(&space, 1));
    for (size_t i = 0; i < data.size(); ++i) data[i] = offset + i < bytes.size() ? bytes[offset + i] : std::byte{0};
}

// ---- life ----

Result<void> Block::activate(Activation activation) {
    CHECK(activity_ == Activity::kInactive);
    activation_.emplace(activation);
    limits_.flush = activation.features & (1ull << VIRTIO_BLK_F_FLUSH);
    activity_ = Activity::kActive;
    return {};
}

void Block::on_kick(unsigned queue) { serve(queue); }

void Block::reset(std::move_only_function<void()> drained) {
    activity_ = Activity::kResetting;
    on_reset_drained_ = std::move(drained);
    settle();
}

void Block::pause(std::move_only_function<void()> paused) {
    paused_ = true;
    on_paused_ = std::move(paused);
    settle();
}

void Block::resume() {
    paused_ = false;
    serve_all();
}

void Block::set_broken(const char* reason) {
    activity_ = Activity::kBroken;
    activation_->interrupt.signal_needs_reset(reason);
}

// ---- one request ----

void Block::serve_all() {
    if (!activation_) return;
    for (unsigned i = 0; i < activation_->queues.size(); ++i) serve(i);
}

// What may be taken in this turn of the loop: a driver that never lets its queue become empty must not hold up the rest.
unsigned& Block::budget() {
    if (budget_turn_ != loop_.turn_number()) {
        budget_turn_ = loop_.turn_number();
        budget_ = limits::kBlockServeBudget;
    }
    return budget_;
}

void Block::serve_next_turn() {
    if (std::exchange(serve_posted_, true)) return;
    loop_.post([this] {
        serve_posted_ = false;
        serve_all();
    });
}

// Serves a queue until it is empty, or until something else will come back to it: resume(), a completion (where the pool
// is empty), or the next turn.
void Block::serve(unsigned index) {
    while (may_serve()) {
        Queue& queue = activation_->queues[index];
        queue.disable_notifications();
        take_requests(index);
        io_->submit();
        settle();
        if (!may_serve() || starved_) return;
        if (budget() == 0) return serve_next_turn();
        if (!queue.enable_notifications()) return;
    }
}

void Block::take_requests(unsigned index) {
    Queue& queue = activation_->queues[index];
    for (unsigned& left = budget(); left > 0; --left) {
        Request* request = pool_->take();
        if (!request) {
            starved_ = queue.has_available();
            return;
        }
        const Queue::Pop popped = queue.pop(request->chain, request->segments);
        if (popped != Queue::Pop::kChain) {
            pool_->give_back(*request);
            if (popped == Queue::Pop::kBroken) set_broken(queue.fault());
            return;
        }
        request->queue = index;
        start(*request);
    }
}

void Block::start(Request& request) {
    request.status = {};
    request.filled = 0;
    request.to_fill = 0;
    request.retries = 0;
    request.sequence = pool_->next_sequence++;
    request.kind = BlockTransfer::Kind::kRead;
    if (request.chain.fault()) return fail_request(request, request.chain.fault());
    const auto parsed = parse_block_request(request.chain, limits_, request.status);
    if (!parsed) {
        LOG_LIMITED("%s: request refused: %s", name_.c_str(), parsed.error().reason);
        return finish(request, parsed.error().status);
    }
    if (parsed->type == BlockRequest::Type::kGetId) {
        request.to_fill = total_size(parsed->data);
        request.filled = Writer(parsed->data).write_some(std::as_bytes(std::span(device_id_)));
        return finish(request, VIRTIO_BLK_S_OK);
    }
    request.kind = transfer_kind(*parsed);
    request.offset = parsed->offset;
    request.length = parsed->length;
    request.slices = parsed->data;
    if (request.kind == BlockTransfer::Kind::kRead) request.to_fill = request.length;
    if (request.kind == BlockTransfer::Kind::kFlush) return start_flush(request);
    if (changes_data(request.kind)) ++pool_->writes;
    io_->queue(request);
}

// A flush covers the writes that came before it, so it waits for those that are still under way. Later ones need not wait.
void Block::start_flush(Request& request) {
    request.writes_before = pool_->writes;
    if (request.writes_before == 0) return io_->queue(request);
    request.next_request = std::exchange(pool_->waiting_flushes, &request);
}

void Block::release_flushes(const Request& finished_write) {
    for (Request** link = &pool_->waiting_flushes; *link;) {
        Request& flush = **link;
        if (flush.sequence > finished_write.sequence && --flush.writes_before == 0) {
            *link = flush.next_request;
            io_->queue(flush);
        } else {
            link = &flush.next_request;
        }
    }
}

void Block::on_transfer_done(BlockTransfer& transfer, int64_t result) {
    auto& request = static_cast<Request&>(transfer);
    if ((result == -EAGAIN || result == -EINTR) && request.retries++ < limits::kBlockRetries) return io_->queue(request);
    if (result < 0) return fail_request(request, strerrordesc_np(static_cast<int>(-result)));
    if (request.has_data()) {
        const auto done = static_cast<uint64_t>(result);
        CHECK(done <= request.length);
        if (request.kind == BlockTransfer::Kind::kRead) request.filled += done;
        if (done == 0) return fail_request(request, "the file ends before the disk does");
        if (done < request.length) {  // short: go on with the rest
            SliceCursor cursor(request.slices);
            cursor.skip(done);
            request.slices = cursor.rest();
            request.offset += done;
            request.length -= done;
            return io_->queue(request);
        }
    }
    finish(request, VIRTIO_BLK_S_OK);
}

void Block::fail_request(Request& request, const char* reason) {
    LOG_LIMITED("%s: I/O error at byte %lu: %s", name_.c_str(), request.offset, reason);
    finish(request, VIRTIO_BLK_S_IOERR);
}

void Block::finish(Request& request, uint8_t status) {
    if (changes_data(request.kind)) {
        --pool_->writes;
        release_flushes(request);
    }
    if (activity_ == Activity::kActive) {
        // The used length counts bytes from the front without a gap: the status byte belongs to it if all before it is filled.
        uint64_t written = request.filled;
        if (request.status.copy_from(std::as_bytes(std::span(&status, 1))) && request.filled == request.to_fill) ++written;
        activation_->queues[request.queue].push(std::move(request.chain), static_cast<uint32_t>(written));
    } else {
        request.chain.abandon();  // a queue that is broken or being reset is not touched any more
    }
    pool_->give_back(request);
}

void Block::on_batch_done() { settle(); }

// After a batch: tells the driver once for all of it, takes what had to wait for a free request, and lets a drain end.
void Block::settle() {
    if (activity_ == Activity::kActive) {
        bool wanted = false;
        for (Queue& queue : activation_->queues) wanted |= queue.publish();
        if (wanted) activation_->interrupt.signal_used();
        if (starved_ && !pool_->empty()) {
            starved_ = false;
            budget() > 0 ? serve_all() : serve_next_turn();
        }
    }
    if (pool_->in_use() > 0) return;
    if (on_paused_) std::exchange(on_paused_, nullptr)();
    if (activity_ == Activity::kResetting && on_reset_drained_) {
        activity_ = Activity::kInactive;
        activation_.reset();
        starved_ = false;
        std::exchange(on_reset_drained_, nullptr)();
    }
}

}  // namespace wisp::virtio
