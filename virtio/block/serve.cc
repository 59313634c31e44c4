// SPDX-License-Identifier: Apache-2.0
//
// A request's way: taken from its queue, parsed, limited, handed to the engine, answered.
#include <cstring>

#include "base/check.h"
#include "base/log.h"
#include "virtio/block/device.h"
#include "virtio/block/pool.h"
#include "virtio/cursor.h"

namespace wisp::virtio {

namespace {

BlockTransfer::Kind transfer_kind(const BlockRequest& request) {
    switch (request.type) {
        case BlockRequest::Type::kRead:
            return BlockTransfer::Kind::kRead;
        case BlockRequest::Type::kWrite:
            return BlockTransfer::Kind::kWrite;
        case BlockRequest::Type::kFlush:
            return BlockTransfer::Kind::kFlush;
        case BlockRequest::Type::kDiscard:
            return BlockTransfer::Kind::kDiscard;
        case BlockRequest::Type::kWriteZeroes:
            return request.unmap == BlockRequest::Unmap::kYes ? BlockTransfer::Kind::kWriteZeroesUnmap
                                                              : BlockTransfer::Kind::kWriteZeroes;
        case BlockRequest::Type::kGetId:
            break;
    }
    CHECK(false);
    __builtin_unreachable();
}

bool changes_data(BlockTransfer::Kind kind) {
    return kind != BlockTransfer::Kind::kRead && kind != BlockTransfer::Kind::kFlush;
}

// The descriptor of a direct file for this transfer: O_DIRECT needs everything aligned, the page cache does not. Ranges
// go through the page cache too: the kernel gives those of one file to one worker at a time, however many there are.
BlockFile::Cache suitable_file(const BlockFile& file, const BlockTransfer& transfer) {
    if (!file.cached_fd.valid()) return BlockFile::Cache::kDirect;
    if (!transfer.has_data()) return BlockFile::Cache::kPageCache;
    if (transfer.offset % file.block_size != 0 || transfer.length % file.block_size != 0)
        return BlockFile::Cache::kPageCache;
    for (const GuestSlice& slice : transfer.slices)
        if (reinterpret_cast<uintptr_t>(slice.host_address()) % file.memory_alignment != 0 ||
            slice.size() % file.block_size != 0)
            return BlockFile::Cache::kPageCache;
    return BlockFile::Cache::kDirect;
}

}  // namespace

void Block::serve_all() {
    for (unsigned i = 0; i < queues_.count(); ++i) serve(i);
}

// The loop looks at the queues by itself, so the driver need not kick until the loop is about to sleep.
bool Block::poll() {
    bool any = io_->poll();
    if (!may_serve()) return any;
    for (unsigned i = 0; i < queues_.count() && may_serve(); ++i) {
        if (!queues_[i].has_available()) continue;
        serve(i);
        any = true;
    }
    return any;
}

bool Block::arm() {
    bool any = io_->arm();
    if (!may_serve()) return any;
    for (unsigned i = 0; i < queues_.count(); ++i) any |= queues_.enable_notifications(i);
    return any;
}

// Whether another request may begin. A request is taken whatever its size, so one may go beyond the bound of bytes.
bool Block::has_room() const {
    return !pool_->empty() && in_flight_bytes_ < limits::kBlockInFlightBytes;
}

// Serves a queue until it is empty or must wait. Then resume(), a completion (where there was no room), the rate
// limiter or the loop's next look continues.
void Block::serve(unsigned index) {
    if (!may_serve()) return;
    queues_.disable_notifications(index);
    while (may_serve() && queues_[index].has_available() && queues_.begin_batch(index)) {
        take_requests(index);
        io_->submit();
        publish_completions();
    }
    if (may_serve() && queues_[index].has_available()) ++counters_.remaining_reqs_count;
}

void Block::take_requests(unsigned index) {
    Queue& queue = queues_[index];
    batch_started_ns_ = monotonic_ns();
    while (queues_.batch_has_room(index)) {
        Request* request = has_room() ? pool_->take() : nullptr;
        if (!request) {
            starved_ = queue.has_available();
            if (starved_) ++counters_.io_engine_throttled_events;
            return;
        }
        const Queue::Pop popped = queue.pop(request->chain, request->segments);
        if (popped != Queue::Pop::kChain) {
            pool_->give_back(*request);
            if (popped == Queue::Pop::kBroken) queues_.set_broken(queue.fault());
            return;
        }
        request->queue = index;
        if (start(*request) == Started::kNotNow) {
            queue.unpop(std::move(request->chain));
            pool_->give_back(*request);
            return;
        }
        queues_.charge(index, request->has_data() ? request->data_size : 0);
    }
}

Block::Started Block::start(Request& request) {
    request.status = {};
    request.to_fill = request.filled = 0;
    request.retries = 0;
    request.kind = BlockTransfer::Kind::kRead;
    request.offset = request.length = request.data_size = 0;
    request.started_ns = batch_started_ns_;
    if (request.chain.fault()) {
        ++counters_.invalid_reqs_count;
        fail_request(request, request.chain.fault());
        return Started::kYes;
    }
    const auto parsed = parse_block_request(request.chain, limits_, request.status);
    if (!parsed) {
        ++counters_.invalid_reqs_count;
        LOG_LIMITED("%s: request refused: %s", name_.c_str(), parsed.error().reason);
        finish(request, parsed.error().status);
        return Started::kYes;
    }
    const bool has_data = parsed->type == BlockRequest::Type::kRead || parsed->type == BlockRequest::Type::kWrite;
    if (!rate_limiter_.take(has_data ? parsed->length : 0)) {
        ++counters_.rate_limiter_throttled_events;
        return Started::kNotNow;
    }
    go(request, *parsed);
    return Started::kYes;
}

void Block::go(Request& request, const BlockRequest& parsed) {
    request.sequence = pool_->next_sequence++;
    if (parsed.type == BlockRequest::Type::kGetId) {
        request.to_fill = total_size(parsed.data);
        request.filled = Writer(as_writable(parsed.data)).write_some(std::as_bytes(std::span(file_.device_id)));
        return finish(request, VIRTIO_BLK_S_OK);
    }
    request.kind = transfer_kind(parsed);
    request.offset = parsed.offset;
    request.length = request.data_size = parsed.length;
    request.slices = parsed.data;
    request.file = suitable_file(file_, request);
    if (request.kind == BlockTransfer::Kind::kRead) request.to_fill = request.length;
    if (request.has_data()) in_flight_bytes_ += request.data_size;
    if (request.kind == BlockTransfer::Kind::kFlush) return start_flush(request);
    if (changes_data(request.kind)) ++pool_->writes;
    io_->queue(request);
}

// A flush covers the writes that came before it, so it waits for those that are still under way. Later ones need not
// wait.
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
    if (&transfer == &final_flush_) {
        if (result < 0)
            LOG_ERROR("%s: cannot flush %s: %s", name_.c_str(), config_.path.c_str(),
                      strerrordesc_np(static_cast<int>(-result)));
        final_flush_done_ = true;
        return;
    }
    auto& request = static_cast<Request&>(transfer);
    if (result < 0) {
        if (try_fallback(request, result)) return;
        ++counters_.execute_fails;
        return fail_request(request, strerrordesc_np(static_cast<int>(-result)));
    }
    if (request.has_data()) {
        const auto done = static_cast<uint64_t>(result);
        CHECK(done <= request.length);
        if (request.kind == BlockTransfer::Kind::kRead) request.filled += done;
        if (done == 0) {
            ++counters_.execute_fails;
            return fail_request(request, "the file ends before the disk does");
        }
        if (done < request.length) {  // short: go on with the rest
            SliceCursor cursor(request.slices);
            cursor.skip(done);
            request.slices = cursor.rest();
            request.offset += done;
            request.length -= done;
            request.file = suitable_file(file_, request);
            return io_->queue(request);
        }
    }
    count_done(request);
    finish(request, VIRTIO_BLK_S_OK);
}

void Block::count_done(const Request& request) {
    if (request.kind == BlockTransfer::Kind::kFlush) ++counters_.flush_count;
    if (!request.has_data()) return;
    const bool read = request.kind == BlockTransfer::Kind::kRead;
    ++(read ? counters_.read_count : counters_.write_count);
    (read ? counters_.read_bytes : counters_.write_bytes) += request.data_size;
    if (done_.size() == done_.capacity()) record_latencies();
    done_.push_back({request.started_ns, read ? &counters_.read_agg : &counters_.write_agg});
}

// Reads the clock once for a batch, when the driver can see it.
void Block::record_latencies() {
    if (done_.empty()) return;
    const uint64_t now_ns = monotonic_ns();
    for (const Done& done : done_) done.of->record(now_ns - done.started_ns);
    done_.clear();
}

// Tries a transfer again that the host lacked memory for. False: it was tried often enough.
bool Block::retry_later(Request& request) {
    if (request.retries == limits::kBlockRetries) return false;
    LOG_LIMITED("%s: the host has no memory for a transfer: trying again", name_.c_str());
    request.next_request = std::exchange(pool_->waiting_retries, &request);
    if (!retry_timer_.armed()) retry_timer_.arm(limits::kBlockFirstRetry_ns << request.retries);
    ++request.retries;
    return true;
}

void Block::retry() {
    for (Request* request = std::exchange(pool_->waiting_retries, nullptr); request;) {
        Request* const next = request->next_request;
        io_->queue(*request);
        request = next;
    }
    io_->submit();
}

// What the host cannot do now, or not in this form. True if the request goes on.
bool Block::try_fallback(Request& request, int64_t result) {
    if (result == -EAGAIN || result == -EINTR || result == -ENOMEM) return retry_later(request);
    if (result != -EOPNOTSUPP) return false;
    switch (request.kind) {
        case BlockTransfer::Kind::kDiscard:
            // Punching a hole promises zeroes. Many devices can discard but cannot promise zeroes.
            if (file_.is_device) {
                request.kind = BlockTransfer::Kind::kDeviceDiscard;
                io_->queue(request);
                return true;
            }
            [[fallthrough]];
        case BlockTransfer::Kind::kDeviceDiscard:  // a discard is advice, which the host may ignore
            finish(request, VIRTIO_BLK_S_OK);
            return true;
        case BlockTransfer::Kind::kWriteZeroes:  // a hole reads as zeroes too
            request.kind = BlockTransfer::Kind::kWriteZeroesUnmap;
            io_->queue(request);
            return true;
        default:
            return false;
    }
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
    if (request.has_data()) in_flight_bytes_ -= request.data_size;
    if (queues_.active()) {
        // The used length counts bytes from the front without a gap: the status byte belongs to it if all before it is
        // filled.
        uint64_t written = request.filled;
        if (request.status.copy_from(std::as_bytes(std::span(&status, 1))) && request.filled == request.to_fill)
            ++written;
        queues_[request.queue].push(std::move(request.chain), static_cast<uint32_t>(written));
    } else {
        request.chain.abandon();  // the device may not touch a queue that is broken or being reset
    }
    pool_->give_back(request);
}

void Block::on_batch_done() {
    publish_completions();
}

// After a batch: publishes it to the driver at once, takes chains that waited for room, and ends drains.
void Block::publish_completions() {
    if (queues_.active()) {
        queues_.publish();
        loop_.expect_answer();
        record_latencies();  // after the driver can see the completions
        if (starved_ && has_room()) {
            starved_ = false;
            serve_all();
        }
    }
    end_drains();
}

}  // namespace wisp::virtio
