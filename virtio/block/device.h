// SPDX-License-Identifier: Apache-2.0
//
// Block: a virtio-blk device (virtio 1.2, section 5.2) on a file or block device of the host.
//
// Owns the file, the I/O engine and a fixed pool of requests. Chains that the pool, or the bound of bytes in flight,
// has no room for stay in the queue.
//
// Threads: the loop's; read_config() and counters() may be called on any thread.
//
// Trusts no request: the guest made it, and request.h checks it. The file is the operator's, but may be truncated or
// fail at any time, which is an I/O error of the request.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/limits.h"
#include "base/loop.h"
#include "base/rate_limiter.h"
#include "base/record.h"
#include "base/result.h"
#include "virtio/block/config.h"
#include "virtio/block/counters.h"
#include "virtio/block/engine.h"
#include "virtio/block/file.h"
#include "virtio/block/request.h"
#include "virtio/device.h"
#include "virtio/device_queues.h"

namespace wisp::virtio {

class Block final : public Device, private BlockIoListener, private PollSource {
public:
    /// Makes the engine; tests give their own.
    using EngineFactory =
        std::function<Result<std::unique_ptr<BlockIo>>(Loop&, BlockIoListener&, unsigned max_in_flight)>;

    /// Opens the file. Errors name the drive, the file and the reason. The log says so where the host forbids io_uring.
    static Result<std::unique_ptr<Block>> create(Loop& loop, BlockConfig config, const EngineFactory& engine = nullptr);
    ~Block();

    const BlockConfig& config() const { return config_; }
    /// Starts the thread that makes cached writes fast, where the drive has a use for one. Once, before the system call
    /// filter of the loop; the guest may run already.
    void start_writer();

    /// Any thread.
    const BlockCounters& counters() const { return counters_; }

    /// Replaces the file of the running drive: opens the new one, which may fail; then waits until nothing is in
    /// flight, switches, tells the driver the new size, and calls `done`. Fails too while an earlier replacement is not
    /// done.
    Result<void> replace_file(const std::string& path, std::move_only_function<void(Result<void>)> done);
    /// Sets the limits that `config` has; see RateLimiter::update().
    void update_rate_limiter(const RateLimiterConfig& config);
    /// For a process that is about to end: takes no more chains, waits until the requests in flight are complete, and
    /// flushes a Writeback drive, as Firecracker does. Waits until `deadline_ns` (CLOCK_MONOTONIC) at most; the log
    /// says what was not done by then. Does not turn the loop.
    void close(uint64_t deadline_ns);
    /// The steps of close(), for several drives at once: is_closed() looks for a moment, and is called until it is true
    /// or there is no more time; end_close() says what is not done.
    void begin_close();
    bool is_closed();
    void end_close();

    /// Writes records of what the driver knows of the drive, and of the limiter, into the open group. While paused.
    void save(RecordWriter& writer) const override;
    /// Takes over such records, before activate(). Refuses a file that is smaller than the disk that the driver knows;
    /// of a larger one the driver sees the size that it knows.
    Result<void> restore(RecordReader& reader) override;

    DeviceId id() const override { return DeviceId::kBlock; }
    const char* name() const override { return name_.c_str(); }  // for the engine too
    uint64_t features() const override;
    std::span<const uint16_t> queue_max_sizes() const override;
    void read_config(uint32_t offset, std::span<std::byte> data) override;
    Result<void> activate(Activation activation) override;
    void on_kick(unsigned queue) override;
    void reset(std::move_only_function<void()> drained) override;
    void pause(std::move_only_function<void()> paused) override;
    void resume() override;

private:
    struct Request;
    class Pool;

    Block(Loop& loop, BlockConfig config);
    Result<void> open();
    Result<void> start_engine(const EngineFactory& factory);
    void set_limits();
    void switch_file();

    bool may_serve() const {
        return queues_.serving() && !replacement_ && !starved_ && !closed_ && !rate_limiter_.blocked();
    }
    bool has_room() const;
    void serve(unsigned queue);
    void serve_all();
    void take_requests(unsigned queue);
    enum class Started : uint8_t { kYes, kNotNow };
    Started start(Request& request);
    void go(Request& request, const BlockRequest& parsed);
    void start_flush(Request& request);
    void release_flushes(const Request& finished_write);
    void finish(Request& request, uint8_t status);
    void fail_request(Request& request, const char* reason);
    bool try_fallback(Request& request, int64_t result);
    bool retry_later(Request& request);
    void retry();
    void count_done(const Request& request);
    void record_latencies();
    void publish_completions();
    void end_drains();

    bool poll() override;
    bool arm() override;
    void on_transfer_done(BlockTransfer& transfer, int64_t result) override;
    void on_batch_done() override;

    /// A file that replaces the present one once nothing is in flight.
    struct Replacement {
        std::string path;
        BlockFile file;
        std::move_only_function<void(Result<void>)> done;
    };

    Loop& loop_;
    BlockConfig config_;
    const std::string name_;
    BlockFile file_;
    std::atomic<uint64_t> sectors_ = 0;  // any thread: part of the configuration space
    std::vector<uint16_t> queue_sizes_;
    uint64_t features_ = 0;              // offered; fixed, whatever file comes later
    uint32_t block_size_ = kSectorSize;  // announced
    BlockLimits limits_;

    std::unique_ptr<Pool> pool_;  // before the engine, which uses its requests until it ends
    std::unique_ptr<BlockIo> io_;
    RateLimiter rate_limiter_;

    DeviceQueues queues_;
    bool starved_ = false;  // chains stayed in a queue because there was no room for their requests
    bool closed_ = false;
    uint64_t in_flight_bytes_ = 0;  // of reads and writes
    Timer retry_timer_;
    bool final_flush_queued_ = false;
    BlockTransfer final_flush_;  // of close()
    bool final_flush_done_ = false;
    BlockCounters counters_;
    uint64_t batch_started_ns_ = 0;  // when the requests of the present batch came out of the queue
    struct Done {
        uint64_t started_ns;
        Latency* of;
    };
    std::vector<Done> done_;  // reads and writes that are not published yet
    std::move_only_function<void()> on_reset_drained_;
    std::move_only_function<void()> on_paused_;
    std::optional<Replacement> replacement_;
};

}  // namespace wisp::virtio
