// SPDX-License-Identifier: Apache-2.0
//
// Console: carries the guest's serial output to a descriptor and a descriptor's input to the guest. A terminal is put
// into raw mode while the VM runs, and back when it ends. A sink that does not take more never holds the loop up: what
// is waiting then stays in the UART's bounded buffer.
//
// Threads: the loop's.
#pragma once

#include <termios.h>

#include <atomic>
#include <memory>
#include <optional>

#include "base/fd.h"
#include "base/loop.h"
#include "base/token_bucket.h"
#include "vmm/devices/serial.h"

namespace wisp {

class Console {
public:
    /// On standard input and output, or, where `output_path` is given, on that file (opened for appending; a FIFO may
    /// have no reader yet) without input. `interrupt` raises the UART's interrupt line, from any thread.
    static Result<std::unique_ptr<Console>> create(Loop& loop, const std::optional<std::string>& output_path,
                                                   std::function<void()> interrupt);
    /// Output beyond this rate, in bytes, is dropped and counted. Before start().
    void limit(const TokenBucketConfig& rate) { rate_.emplace(rate, monotonic_ns()); }
    uint64_t rate_limited() const { return rate_limited_; }
    Console(const Console&) = delete;
    Console& operator=(const Console&) = delete;
    ~Console();

    Serial& serial() { return serial_; }

    /// Starts to carry bytes, once the VM is about to run.
    Result<void> start();
    /// Writes what the sink takes without waiting, and gives the terminal back. When the VM has ended.
    void finish();

private:
    Console(Loop& loop, std::function<void()> interrupt);

    void on_output(uint32_t events);
    void on_input(uint32_t events);
    void flush();
    void drop_excess();
    void wait_for_sink();
    void read_input();
    void make_terminal_raw();
    void restore_terminal();

    Loop& loop_;
    Serial serial_;
    OwnedFd file_;
    int output_fd_ = -1;
    int input_fd_ = -1;                 // -1: none, or at its end
    std::array<char, 1024> pending_{};  // taken from the UART, not yet taken by the sink
    size_t pending_start_ = 0, pending_end_ = 0;
    std::optional<TokenBucket> rate_;
    uint64_t rate_limited_ = 0;  // bytes
    Doorbell output_bell_, input_bell_;
    std::optional<termios> saved_terminal_;
    MemberWatcher<Console, &Console::on_output> on_output_{*this};
    MemberWatcher<Console, &Console::on_input> on_input_{*this};
    Watch output_watch_, input_watch_;
};

}  // namespace wisp
