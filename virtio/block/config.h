// SPDX-License-Identifier: Apache-2.0
//
// What a drive is made from.
#pragma once

#include <cstdint>
#include <string>

#include "base/token_bucket.h"
#include "virtio/block/engine.h"
#include "virtio/block/file.h"

namespace wisp::virtio {

enum class CacheType : uint8_t { kUnsafe, kWriteback };  ///< Writeback offers flush; Unsafe leaves it to the host

/// Firecracker's default is Sync. Both get the same engine here, the ring where the host allows it: calls that block
/// have no place on the loop. The value is kept because clients read it back.
enum class IoEngine : uint8_t { kAsync, kSync };

struct BlockConfig {
    std::string id{};    ///< drive_id, for messages
    std::string path{};  ///< path_on_host
    bool read_only = false;
    CacheType cache_type = CacheType::kUnsafe;
    IoEngine io_engine = IoEngine::kAsync;
    BlockFile::Cache host_cache = BlockFile::Cache::kPageCache;  ///< kDirect: O_DIRECT, past the host's page cache
    RateLimiterConfig rate_limiter{};
    unsigned queues = 1;           ///< up to limits::kBlockQueues
    ThreadSetup confine_thread{};  ///< runs first on each thread of the drive
};

}  // namespace wisp::virtio
