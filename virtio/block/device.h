// SPDX-License-Identifier: Apache-2.0
//
// Block: a virtio-blk device (virtio 1.2, section 5.2) on a file or block device of the host.
//
// Owns the file, the I/O engine and a fixed pool of requests: what does not fit waits in the queue. Threads: the
// loop's, but for read_config(). Every request is the guest's word and checked (block_request.h); the file is the
// operator's, but may be truncated or fail at any time: an I/O error for the request, nothing more.
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
#include "base/result.h"
#include "virtio/block/counters.h"
#include "virtio/block/engine.h"
#include "virtio/block/file.h"
#include "virtio/block/request.h"
#include "virtio/device.h"
#include "virtio/device_queues.h"

namespace wisp::virtio {

struct BlockConfig {
    enum class CacheType : uint8_t { kUnsafe, kWriteback };  ///< Writeback offers flush; Unsafe leaves it to the host
    enum class IoEngine : uint8_t { kAsync, kSync };

    std::string id{};    ///< drive_id, for messages
    std::string path{};  ///< path_on_host
    bool read_only = false;
    CacheType cache_type = CacheType::kUnsafe;
    IoEngine io_engine = IoEngine::kAsync;
    BlockFile::Cache host_cache = BlockFile::Cache::kPageCache;  ///< kDirect: O_DIRECT, past the host's page cache
    RateLimiterConfig rate_limiter{};
    unsigned queues = 1;  ///< up to limits::kBlockQueues
};

class Block final : public Device, private BlockIoListener, private PollSource {
public:
    /// Makes the engine; tests give their own.
    using EngineFactory =
        std::function<Result<std::unique_ptr<BlockIo>>(Loop&, BlockIoListener&, unsigned max_in_flight)>;

    /// Opens the file. Errors name the drive, the file and the reason. Where the host forbids io_uring, Async becomes
    /// Sync and the log says so.
    static Result<std::unique_ptr<Block>> create(Loop& loop, BlockConfig config, const EngineFactory& engine = nullptr);
    ~Block();

    const BlockConfig& config() const { return config_; }
    /// The engine in use, which is not the one asked for where the host forbids io_uring.
    BlockConfig::IoEngine io_engine() const { return engine_; }
    const BlockCounters& counters() const { return counters_; }

    /// Puts another file under the running drive: opens it, which may fail; then waits for what is in flight, switches,
    /// tells the driver of the new size, and calls `done`. Fails as well while an earlier replacement is not done.
    Result<void> replace_file(const std::string& path, std::move_only_function<void(Result<void>)> done);
    /// Sets the limits that `config` has; see RateLimiter::update().
    void update_rate_limiter(const RateLimiterConfig& config);

    DeviceId id() const override { return DeviceId::kBlock; }
    const char* name() const override { return name_.c_str(); }
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
    /// Requests of a drive, so that none is allocated while the VM runs.
    class Pool;

    Block(Loop& loop, BlockConfig config);
    Result<void> open();
    Result<void> start_engine(const EngineFactory& factory);
    void set_limits();
    void switch_file();

    bool may_serve() const { return queues_.serving() && !replacement_ && !starved_ && !rate_limiter_.blocked(); }
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
    void count_done(const Request& request);
    void record_latencies();
    void settle();
    void end_drains();

    bool poll() override;
    bool arm() override;
    void on_transfer_done(BlockTransfer& transfer, int64_t result) override;
    void on_batch_done() override;

    /// A file that takes the present one's place once nothing is in flight.
    struct Replacement {
        std::string path;
        BlockFile file;
        std::move_only_function<void(Result<void>)> done;
    };

    Loop& loop_;
    BlockConfig config_;
    const std::string name_;
    BlockConfig::IoEngine engine_;
    BlockFile file_;
    std::atomic<uint64_t> sectors_ = 0;  // any thread: part of the configuration space
    std::vector<uint16_t> queue_sizes_;
    uint64_t features_ = 0;              // offered; fixed, whatever file comes later
    uint32_t block_size_ = kSectorSize;  // announced
    BlockLimits limits_;

    std::unique_ptr<Pool> pool_;  // before the engine, which lets go of the requests when it goes
    std::unique_ptr<BlockIo> io_;
    RateLimiter rate_limiter_;

    DeviceQueues queues_;
    bool starved_ = false;  // a queue was left with chains because the pool was empty
    BlockCounters counters_;
    uint64_t batch_started_ns_ = 0;  // when the requests that are being taken came out of the queue
    struct Done {
        uint64_t started_ns;
        Latency* of;
    };
    std::vector<Done> done_;  // reads and writes that the driver is about to be told of
    std::move_only_function<void()> on_reset_drained_;
    std::move_only_function<void()> on_paused_;
    std::optional<Replacement> replacement_;
};

}  // namespace wisp::virtio
