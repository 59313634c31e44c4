// SPDX-License-Identifier: Apache-2.0
//
// A vsock device between a script of a guest, whose packets are right and wrong, and a script of host programs that
// connect, listen, read, write and go; perhaps with a second thread that changes the rings meanwhile. Every packet to
// the guest fits its buffer and makes sense.
#include "virtio/vsock/device.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <vector>

#include "base/unix_socket.h"
#include "tests/fuzz/device_script.h"

using namespace wisp;
using namespace wisp::virtio;

namespace {

constexpr uint64_t kSent = 0x10000, kSentSlots = 6, kSlot = 0x11000, kBuffers = 0x90000, kBufferSlots = 6;
constexpr unsigned kCid = 3, kRx = 0, kTx = 1;
constexpr size_t kMostPrograms = 8;

enum Op : uint8_t {
    kPacket,
    kRawPacket,
    kPost,
    kAnyChain,
    kPoke,
    kConnect,
    kWrite,
    kRead,
    kShut,
    kClose,
    kAccept,
    kReset,
    kPause,
    kTurn,
    kEvent,
    kOps
};

class Script final : public fuzz::DeviceScript {
public:
    Script(const GuestMemory& memory, fuzz::Input input)
        : DeviceScript(memory, input, 3), path_("/dev/shm/wisp-fuzz-" + std::to_string(getpid()) + ".v") {
        unlink(path_.c_str());
        unlink(listener_path().c_str());
        vsock_ = *Vsock::create(loop(), {kCid, path_});
        listener_ = *UnixListener::create(listener_path(), 4);
        activate(*vsock_, kTransport);
        if (input_.take<uint8_t>() & 1) {
            trusted_ = false;
            start_race();
        }
    }
    ~Script() {
        stop_race();
        reset(*vsock_);
        CHECK(vsock_->connections() == 0);
    }

    void run() {
        while (!input_.empty()) {
            step(static_cast<Op>(input_.take<uint8_t>() % kOps));
            look_at_received();
            CHECK(vsock_->connections() <= limits::kVsockConnections);
        }
        turn();
        look_at_received();
        if (racing()) race_on(*vsock_, kTransport);
    }

private:
    std::string listener_path() const { return path_ + "_5000"; }

    void step(Op op) {
        switch (op) {
            case kPacket:
                return send_packet();
            case kRawPacket: {
                const auto cut = input_.take<uint16_t>();
                return send(input_.bytes(input_.take<uint16_t>()), cut, 0);
            }
            case kPost: {
                const auto count = input_.take<uint8_t>() % 32u;
                const auto size = input_.take<uint16_t>(), cut = input_.take<uint16_t>();
                for (unsigned i = 0; i < count; ++i)
                    drivers_[kRx].submit(kBuffers + next_buffer_++ % kBufferSlots * kSlot, size, cut, true);
                return kick(*vsock_, kRx);
            }
            case kAnyChain: {
                const unsigned queue = input_.take<uint8_t>() % 3;
                drivers_[queue].submit_any(input_);
                trusted_ = false;
                return kick(*vsock_, queue);
            }
            case kPoke: {
                poke();
                trusted_ = false;
                return kick(*vsock_, input_.take<uint8_t>() % 3);
            }
            case kConnect: {
                UnixSocket program = connect_unix(path_);
                if (program.fd.valid() && programs_.size() < kMostPrograms) programs_.push_back(std::move(program.fd));
                return;
            }
            case kAccept: {
                UnixSocket program = accept_unix(listener_->fd());
                if (program.fd.valid() && programs_.size() < kMostPrograms) programs_.push_back(std::move(program.fd));
                return;
            }
            case kWrite:
                return write();
            case kRead:
                return read();
            case kShut:
                if (OwnedFd* fd = program()) shutdown(fd->get(), input_.take<uint8_t>() % 3);
                return;
            case kClose:
                if (OwnedFd* fd = program()) programs_.erase(programs_.begin() + (fd - programs_.data()));
                return;
            case kReset:
                reset(*vsock_);
                trusted_ = !racing();
                next_buffer_ = 0;
                return activate(*vsock_, kTransport);
            case kPause:
                return pause_or_resume(*vsock_);
            case kTurn:
                return turn();
            case kEvent:
                return vsock_->reset_transport();
            case kOps:
                break;
        }
    }

    OwnedFd* program() {
        const auto index = input_.take<uint8_t>();
        return programs_.empty() ? nullptr : &programs_[index % programs_.size()];
    }

    // The CONNECT line, as a whole or in part, or data.
    void write() {
        OwnedFd* const fd = program();
        const auto kind = input_.take<uint8_t>();
        std::string text = "CONNECT 52\n";
        if (kind & 1) {
            const auto bytes = input_.bytes(input_.take<uint8_t>());
            text.assign(bytes.begin(), bytes.end());
        }
        if (kind & 2) text.append(input_.take<uint8_t>() * 255u, 'x');
        const iovec part{text.data(), text.size()};
        if (fd) (void)send_some(fd->get(), {&part, 1});
        turn();
    }

    void read() {
        OwnedFd* const fd = program();
        static char room[1 << 16];
        const iovec part{room, input_.take<uint16_t>()};
        if (fd && part.iov_len > 0) (void)receive_some(fd->get(), {&part, 1});
        turn();
    }

    // A header that is right but for what the input says; ports from a handful, so that packets meet their connections.
    void send_packet() {
        const auto change = input_.take<uint8_t>();
        virtio_vsock_hdr header{};
        header.src_cid = kCid;
        header.dst_cid = kVsockHostCid;
        const auto ports = input_.take<uint8_t>();
        header.src_port = ports & 4 ? 52 : 1024u + (ports & 3);
        header.dst_port = ports & 8 ? 5000 : last_host_port_ + (ports >> 4);
        header.type = VIRTIO_VSOCK_TYPE_STREAM;
        header.op = input_.take<uint8_t>() % 9;
        header.buf_alloc = change & 1 ? input_.take<uint32_t>() : 65536;
        header.fwd_cnt = change & 2 ? input_.take<uint32_t>() : 0;
        header.flags = change & 4 ? input_.take<uint32_t>() : 3;
        if (change & 8) header.type = input_.take<uint16_t>();
        if (change & 16) header.src_cid = input_.take<uint64_t>();
        if (change & 32) header.dst_cid = input_.take<uint64_t>();
        const auto data = input_.take<uint16_t>();
        header.len = change & 64 ? input_.take<uint32_t>() : header.op == VIRTIO_VSOCK_OP_RW ? data : 0;
        const auto* const bytes = reinterpret_cast<const uint8_t*>(&header);
        send({bytes, sizeof header}, change & 128 ? input_.take<uint16_t>() : 4096, data);
    }

    void send(std::span<const uint8_t> bytes, uint64_t cut, uint64_t more) {
        const uint64_t at = kSent + next_slot_++ % kSentSlots * kSlot;
        if (!bytes.empty()) memcpy(host_ + at, bytes.data(), bytes.size());
        drivers_[kTx].submit(at, std::min(bytes.size() + more, kSlot), cut, false);
        kick(*vsock_, kTx);
    }

    // As long as the guest has not meddled with its rings, used elements are the device's own.
    void look_at_received() {
        fuzz::Driver::Used used{};
        for (unsigned i = 0; trusted_ && i < fuzz::Driver::kSize && drivers_[kRx].take_used(used); ++i) {
            CHECK(used.head < fuzz::Driver::kSize);
            if (used.written == 0) continue;
            fuzz::Driver::Descriptor first{};
            memcpy(&first, host_ + ring(kRx) + used.head * sizeof first, sizeof first);
            virtio_vsock_hdr header{};
            CHECK(used.written >= sizeof header && used.written <= kSlot);
            if (first.length < sizeof header || first.address < kBuffers) continue;  // the next chain lies over it
            last_host_port_ = peek_port(first.address);
        }
    }
    uint32_t peek_port(uint64_t address) const {
        virtio_vsock_hdr header{};
        memcpy(&header, host_ + address, sizeof header);
        return header.src_port;
    }

    const std::string path_;
    std::unique_ptr<Vsock> vsock_;
    std::optional<UnixListener> listener_;
    std::vector<OwnedFd> programs_;
    uint64_t next_slot_ = 0, next_buffer_ = 0;
    uint32_t last_host_port_ = 1u << 30;
    bool trusted_ = true;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    return fuzz::DeviceScript::run<Script>(data, size);
}
