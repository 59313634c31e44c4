// SPDX-License-Identifier: Apache-2.0
//
// What fuzz targets share. Each is one file with one LLVMFuzzerTestOneInput, run by libFuzzer (`make fuzz`) or over its
// corpus by replay.cc (`make test`). A target finds a bug by a CHECK, a sanitizer's report, or by never ending.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>

#include "base/check.h"
#include "base/fd.h"
#include "base/guest_memory.h"
#include "base/limits.h"
#include "base/log.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace wisp::fuzz {

/// Takes values off the front of the input; zeroes when it has run out.
class Input {
public:
    Input(const uint8_t* data, size_t size) : rest_(data, size) {}

    template <class T>
    T take() {
        T value{};
        const auto taken = bytes(sizeof value);
        if (!taken.empty()) memcpy(&value, taken.data(), taken.size());
        return value;
    }
    std::span<const uint8_t> bytes(size_t most) {
        const auto taken = rest_.first(most < rest_.size() ? most : rest_.size());
        rest_ = rest_.subspan(taken.size());
        return taken;
    }
    bool empty() const { return rest_.empty(); }
    std::string_view text() const { return {reinterpret_cast<const char*>(rest_.data()), rest_.size()}; }

private:
    std::span<const uint8_t> rest_;
};

/// Guest memory of `size` bytes at 0.
inline GuestMemory guest_memory(uint64_t size) {
    const GuestMemory::Range range[] = {{GuestAddress{0}, size}};
    auto memory = GuestMemory::create(range, MemoryBacking::anonymous());
    CHECK(memory.has_value());
    return *std::move(memory);
}

/// All of such memory as the guest's own processor reaches it.
inline std::byte* host_bytes(const GuestMemory& memory) {
    return static_cast<std::byte*>(memory.writable({0}, memory.total_size())->host_address());
}

/// No lines: a run makes millions of mistakes.
inline void be_quiet() {
    log::Config config;
    config.level = log::Level::kOff;
    log::configure(config);
}

/// A file with this content, named `path` for as long as it lives.
class File {
public:
    explicit File(const char* suffix) : path_("/dev/shm/wisp-fuzz-" + std::to_string(getpid()) + suffix) {}
    ~File() { unlink(path_.c_str()); }
    const std::string& write(std::string_view content) const {
        const auto file = open_file(path_, O_RDWR | O_CREAT | O_TRUNC, 0600);
        CHECK(file && write_all(file->get(), content.data(), content.size(), path_));
        return path_;
    }

private:
    std::string path_;
};

}  // namespace wisp::fuzz
