// SPDX-License-Identifier: Apache-2.0
#include "tests/support/fake_tap.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/check.h"

namespace wisp::test {

using virtio::FrameTransfer;

void FakeTap::send(std::span<FrameTransfer> frames) {
    ++system_calls;
    for (FrameTransfer& frame : frames) {
        CHECK(frame.part_count <= 1024);
        if (room == 0) {
            frame.result = -EAGAIN;
            continue;
        }
        if (const int error = send_fault ? send_fault() : send_error) {
            frame.result = -error;
            continue;
        }
        std::string bytes;
        for (unsigned i = 0; i < frame.part_count; ++i)
            bytes.append(static_cast<const char*>(frame.parts[i].iov_base), frame.parts[i].iov_len);
        frame.result = static_cast<int64_t>(bytes.size());
        sent.push_back(std::move(bytes));
        if (room != SIZE_MAX) --room;
    }
}

void FakeTap::receive(std::span<FrameTransfer> frames) {
    ++system_calls;
    for (FrameTransfer& frame : frames) {
        CHECK(frame.part_count <= 1024);
        const int error = receive_fault ? receive_fault() : receive_error;
        if (error || waiting.empty()) {
            frame.result = error ? -error : -EAGAIN;
            continue;
        }
        std::string_view rest = waiting.front();
        size_t done = 0;
        for (unsigned i = 0; i < frame.part_count && !rest.empty(); ++i) {
            const size_t part = std::min(rest.size(), frame.parts[i].iov_len);
            memcpy(frame.parts[i].iov_base, rest.data(), part);
            rest.remove_prefix(part);
            done += part;
        }
        frame.result = static_cast<int64_t>(done);
        waiting.pop_front();
    }
}

Result<void> FakeTap::set_offloads(unsigned wanted) {
    if (refuses_offloads) return fail("the tap refuses");
    offloads = wanted;
    return {};
}

void FakeTap::push(std::string frame) {
    waiting.push_back(std::move(frame));
    tell();
}

}  // namespace wisp::test
