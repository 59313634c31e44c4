// SPDX-License-Identifier: Apache-2.0
#include "base/ring.h"

#include <atomic>
#include <vector>

#include "base/check.h"

namespace wisp {

namespace {

constexpr unsigned kReapBatch = 64;

// From what 6.1 and later hosts do best (task work runs only when this thread asks for it: no inter-processor
// interrupt) down to what any host with io_uring does.
constexpr unsigned kSetupFlags[] = {
    IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_DEFER_TASKRUN,
    IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_COOP_TASKRUN,
    IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_COOP_TASKRUN,
    0,
};

}  // namespace

Ring::~Ring() {
    if (valid_) io_uring_queue_exit(&ring_);
}

Result<void> Ring::create(const Options& options) {
    int result = -EINVAL;
    for (const unsigned flags : kSetupFlags) {
        io_uring_params params{};
        params.flags = flags | IORING_SETUP_R_DISABLED | IORING_SETUP_CLAMP;
        if (options.completion_entries) {
            params.flags |= IORING_SETUP_CQSIZE;
            params.cq_entries = options.completion_entries;
        }
        result = io_uring_queue_init_params(options.entries, &ring_, &params);
        if (result != -EINVAL) break;
    }
    if (result < 0) {
        errno = -result;
        return fail_errno("cannot create an io_uring of %u entries", options.entries);
    }
    if (auto restricted = restrict(options); !restricted) {
        io_uring_queue_exit(&ring_);
        return restricted;
    }
    valid_ = true;
    return {};
}

Result<void> Ring::restrict(const Options& options) {
    if (options.file_slots) {
        if (const int result = io_uring_register_files_sparse(&ring_, options.file_slots); result < 0) {
            errno = -result;
            return fail_errno("cannot register %u file slots with io_uring", options.file_slots);
        }
    }
    // Kernels before 5.15 have a fixed number, which does as well.
    if (options.workers) {
        unsigned values[2] = {options.workers, 0};
        (void)io_uring_register_iowq_max_workers(&ring_, values);
    }
    if (options.completion_eventfd >= 0) {
        if (const int result = io_uring_register_eventfd(&ring_, options.completion_eventfd); result < 0) {
            errno = -result;
            return fail_errno("cannot register an eventfd with io_uring");
        }
    }
    std::vector<io_uring_restriction> rules;
    for (const uint8_t opcode : options.opcodes) {
        io_uring_restriction rule{};
        rule.opcode = IORING_RESTRICTION_SQE_OP;
        rule.sqe_op = opcode;
        rules.push_back(rule);
    }
    auto add_flags = [&rules](uint16_t opcode, uint8_t flags) {
        io_uring_restriction rule{};
        rule.opcode = opcode;
        rule.sqe_flags = flags;
        rules.push_back(rule);
    };
    if (options.fixed_files_only) add_flags(IORING_RESTRICTION_SQE_FLAGS_REQUIRED, IOSQE_FIXED_FILE);
    add_flags(IORING_RESTRICTION_SQE_FLAGS_ALLOWED, options.flags);
    // PATCH of a drive swaps its registered file on the running ring.
    if (options.file_slots) {
        io_uring_restriction update{};
        update.opcode = IORING_RESTRICTION_REGISTER_OP;
        update.register_op = IORING_REGISTER_FILES_UPDATE2;
        rules.push_back(update);
        update.register_op = IORING_REGISTER_FILES_UPDATE;
        rules.push_back(update);
    }
    int result = io_uring_register_restrictions(&ring_, rules.data(), static_cast<unsigned>(rules.size()));
    if (result < 0) {
        errno = -result;
        return fail_errno("cannot restrict an io_uring");
    }
    result = io_uring_enable_rings(&ring_);
    if (result < 0) {
        errno = -result;
        return fail_errno("cannot enable an io_uring");
    }
    return {};
}

io_uring_sqe* Ring::prepare(Completion* completion) {
    io_uring_sqe* entry = io_uring_get_sqe(&ring_);
    if (!entry) {
        CHECK(submit().has_value());
        entry = io_uring_get_sqe(&ring_);
        if (!entry) return nullptr;
    }
    io_uring_prep_nop(entry);
    io_uring_sqe_set_data(entry, completion);
    ++in_flight_;
    return entry;
}

Result<void> Ring::submit() {
    if (io_uring_sq_ready(&ring_) == 0) return {};
    int result;
    do {
        result = io_uring_submit(&ring_);
    } while (result == -EINTR);
    if (result < 0 && !is_shortage(result)) {
        errno = -result;
        return fail_errno("io_uring_enter");
    }
    return {};
}

Result<bool> Ring::submit_and_wait(int64_t timeout_ns) {
    if (timeout_ns == 0) {  // a wait of no length is a sleep and a timer to the kernel all the same
        TRY(submit());
        return pending();
    }
    auto wait = [](auto call, int64_t longest_ns) -> Result<bool> {
        __kernel_timespec timeout{longest_ns / 1'000'000'000, longest_ns % 1'000'000'000};
        io_uring_cqe* first = nullptr;
        const int result = call(&first, longest_ns < 0 ? nullptr : &timeout);
        if (result >= 0) return true;
        if (result == -ETIME || result == -EINTR || is_shortage(result)) return first != nullptr;
        errno = -result;
        return fail_errno("io_uring_enter");
    };
    const bool any = TRY(wait(
        [this](io_uring_cqe** first, __kernel_timespec* timeout) {
            return io_uring_submit_and_wait_timeout(&ring_, first, 1, timeout, nullptr);
        },
        timeout_ns));
    if (any || pending() || unsubmitted() == 0) return any;
    // The kernel did not take all, and did not wait: without a pause the caller would spin until it does.
    return wait([this](io_uring_cqe** first,
                       __kernel_timespec* timeout) { return io_uring_wait_cqes(&ring_, first, 1, timeout, nullptr); },
                timeout_ns < 0 || timeout_ns > kShortage_ns ? kShortage_ns : timeout_ns);
}

void Ring::notify(Notify notify) {
    io_uring_cq_eventfd_toggle(&ring_, notify == Notify::kOn);
    // The kernel must see the switch before we look at the ring again; pairs with its look at the switch after a
    // completion.
    if (notify == Notify::kOn) std::atomic_thread_fence(std::memory_order_seq_cst);
}

unsigned Ring::reap() {
    // Work that the kernel keeps until this thread asks for it: completions are made of it.
    if (IO_URING_READ_ONCE(*ring_.sq.kflags) & IORING_SQ_TASKRUN) io_uring_get_events(&ring_);
    // The batch is taken off the ring before anything is called: a completion may submit, and see the ring as it is.
    struct Reaped {
        Completion* completion;
        int32_t result;
        uint32_t flags;
    } reaped[kReapBatch];
    io_uring_cqe* entries[kReapBatch];
    const unsigned count = io_uring_peek_batch_cqe(&ring_, entries, kReapBatch);
    for (unsigned i = 0; i < count; ++i) {
        reaped[i] = {static_cast<Completion*>(io_uring_cqe_get_data(entries[i])), entries[i]->res, entries[i]->flags};
        if (!(entries[i]->flags & IORING_CQE_F_MORE)) --in_flight_;
    }
    io_uring_cq_advance(&ring_, count);
    for (unsigned i = 0; i < count; ++i)
        if (reaped[i].completion) reaped[i].completion->on_completion(reaped[i].result, reaped[i].flags);
    return count;
}

Result<void> Ring::set_file(unsigned slot, int fd) {
    const int result = io_uring_register_files_update(&ring_, slot, &fd, 1);
    if (result < 0) {
        errno = -result;
        return fail_errno("cannot register a file with io_uring");
    }
    return {};
}

}  // namespace wisp
