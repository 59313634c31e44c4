// SPDX-License-Identifier: Apache-2.0
//
// Console: copies the guest's serial output to a descriptor and input from a descriptor to the guest. A terminal is in
// raw mode while the VM runs, and gets its settings back when it ends.
//
// A sink that takes nothing blocks neither the loop nor the guest. For limits::kConsolePatience_ms output stays in the
// UART's bounded buffer; then it is dropped and counted until the sink takes bytes again.
//
// Threads: the loop's; rate_limited() on any.
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
    /// Drops and counts output beyond this rate, in bytes. Call it before start().
    void limit(const TokenBucketConfig& rate) { rate_.emplace(rate, monotonic_ns()); }
    uint64_t rate_limited() const { return rate_limited_.load(std::memory_order_relaxed); }  ///< bytes
    Console(const Console&) = delete;
    Console& operator=(const Console&) = delete;
    ~Console();

    Serial& serial() { return serial_; }

    /// Starts to copy bytes. Call it when the VM is about to run.
    Result<void> start();
    /// Until resume(), no input reaches the UART and no interrupt is raised. The vCPUs are stopped.
    void pause();
    void resume();
    /// Writes the output that the sink takes without waiting, and restores the terminal. Call it when the VM has ended.
    void finish();

private:
    Console(Loop& loop, std::function<void()> interrupt);

    void on_output(uint32_t events);
    void on_input(uint32_t events);
    void flush();
    void drop_excess();
    bool write_pending();
    void lose_pending();
    void wait_for_sink();
    void watch_input();
    void read_input();
    void make_terminal_raw();
    void restore_terminal();

    Loop& loop_;
    Serial serial_;
    OwnedFd file_;  // the sink; none where standard output cannot be reopened
    int output_fd_ = -1;
    int input_fd_ = -1;                 // -1: none, or at its end
    std::array<char, 1024> pending_{};  // taken from the UART, not yet written to the sink
    size_t pending_start_ = 0, pending_end_ = 0;
    std::optional<TokenBucket> rate_;
    std::atomic<uint64_t> rate_limited_ = 0;
    Timer patience_;        // runs while the sink takes nothing
    bool stalled_ = false;  // the sink took nothing for so long: output is dropped
    bool paused_ = false;
    Doorbell output_bell_, input_bell_;
    std::optional<termios> saved_terminal_;
    MemberWatcher<Console, &Console::on_output> on_output_{*this};
    MemberWatcher<Console, &Console::on_input> on_input_{*this};
    Watch output_watch_, input_watch_;
};

}  // namespace wisp
