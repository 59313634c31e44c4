// SPDX-License-Identifier: Apache-2.0
#include "virtio/vsock/packet.h"

#include <catch2/catch.hpp>

#include "base/limits.h"
#include "virtio/vsock/connect_line.h"

using namespace wisp;
using namespace wisp::virtio;
using Answer = VsockRefusal::Answer;

namespace {

virtio_vsock_hdr good(VsockOp op = VsockOp::kData) {
    virtio_vsock_hdr header{};
    header.src_cid = 3;
    header.dst_cid = 2;
    header.src_port = 1000;
    header.dst_port = 52;
    header.type = VIRTIO_VSOCK_TYPE_STREAM;
    header.op = static_cast<uint16_t>(op);
    header.buf_alloc = 4096;
    header.fwd_cnt = 7;
    return header;
}

Answer refusal(const virtio_vsock_hdr& header, uint64_t available = 0) {
    const auto packet = parse_vsock_header(header, available, 3);
    REQUIRE_FALSE(packet);
    REQUIRE(packet.error().reason);
    return packet.error().answer;
}

VsockConnectLine::State state_of(std::string_view bytes) {
    return parse_vsock_connect_line(bytes).state;
}

}  // namespace

TEST_CASE("vsock packet: a sound header is understood") {
    auto header = good();
    header.len = 100;
    header.flags = 77;  // of no meaning with data of a stream
    const auto packet = parse_vsock_header(header, 200, 3);
    REQUIRE(packet);
    CHECK(packet->ports == VsockPorts{1000, 52});
    CHECK(packet->op == VsockOp::kData);
    CHECK(packet->length == 100);
    CHECK(packet->buf_alloc == 4096);
    CHECK(packet->fwd_cnt == 7);
    for (uint16_t op = 1; op <= 7; ++op) CHECK(parse_vsock_header(good(static_cast<VsockOp>(op)), 0, 3));
}

TEST_CASE("vsock packet: each field that is wrong is refused, and answered where there is somebody to answer to") {
    auto header = good();
    header.src_cid = 4;
    CHECK(refusal(header) == Answer::kNone);
    header.src_cid = 0x1'0000'0003;
    CHECK(refusal(header) == Answer::kNone);
    header = good();
    header.dst_cid = 1;
    CHECK(refusal(header) == Answer::kReset);
    header = good();
    header.dst_cid = 0x1'0000'0002;
    CHECK(refusal(header) == Answer::kReset);
    for (const uint16_t type : {0, 2, 3, 0xffff}) {
        header = good();
        header.type = type;
        CHECK(refusal(header) == Answer::kReset);
    }
    for (const uint16_t op : {0, 8, 0x105, 0xffff}) {
        header = good();
        header.op = op;
        CHECK(refusal(header) == Answer::kReset);
    }
    header = good();
    header.len = 101;
    CHECK(refusal(header, 100) == Answer::kReset);
    header.len = limits::kVsockPacket + 1;
    CHECK(refusal(header, 1 << 20) == Answer::kReset);
    header.len = UINT32_MAX;
    CHECK(refusal(header, UINT32_MAX) == Answer::kReset);
    header = good(VsockOp::kRequest);
    header.len = 1;
    CHECK(refusal(header, 1) == Answer::kReset);
    header = good(VsockOp::kShutdown);
    header.flags = 4;
    CHECK(refusal(header) == Answer::kReset);
}

TEST_CASE("vsock packet: a wrong RST is never answered") {
    auto header = good(VsockOp::kReset);
    header.type = 9;
    CHECK(refusal(header) == Answer::kNone);
    header = good(VsockOp::kReset);
    header.dst_cid = 9;
    CHECK(refusal(header) == Answer::kNone);
}

TEST_CASE("vsock packet: the answer goes back where the packet came from") {
    auto header = good();
    header.dst_cid = 99;
    const auto reset = vsock_reset_for(header);
    CHECK(reset.src_cid == 99);
    CHECK(reset.dst_cid == 3);
    CHECK(reset.src_port == 52);
    CHECK(reset.dst_port == 1000);
    CHECK(reset.op == VIRTIO_VSOCK_OP_RST);
    CHECK(reset.len == 0);
}

TEST_CASE("vsock CONNECT line: right ones, in pieces and with data behind") {
    using State = VsockConnectLine::State;
    const std::string_view line = "CONNECT 1024\n";
    for (size_t size = 0; size < line.size(); ++size) CHECK(state_of(line.substr(0, size)) == State::kIncomplete);
    const auto whole = parse_vsock_connect_line("CONNECT 1024\nhello");
    CHECK(whole.state == State::kComplete);
    CHECK(whole.port == 1024);
    CHECK(whole.size == line.size());
    CHECK(parse_vsock_connect_line("connect 0\n").state == State::kComplete);
    CHECK(parse_vsock_connect_line("Connect 4294967295\n").port == UINT32_MAX);
}

TEST_CASE("vsock CONNECT line: wrong ones are known as soon as they are") {
    using State = VsockConnectLine::State;
    for (const char* wrong : {"X", "CONNECX", "CONNECT\n", "CONNECT \n", "CONNECT  5\n", "CONNECT 5 \n", "CONNECT -1\n",
                              "CONNECT 0x5\n", "CONNECT 5\r\n", "CONNECT 4294967296", "CONNECT 99999999999999999999"})
        CHECK(state_of(wrong) == State::kWrong);
    CHECK(state_of("CONNECT " + std::string(23, '0')) == State::kIncomplete);
    CHECK(state_of("CONNECT " + std::string(24, '0')) == State::kWrong);
    CHECK(state_of("CONNECT " + std::string(23, '0') + "\n") == State::kComplete);
    CHECK(state_of("CONNECT " + std::string(24, '0') + "\n") == State::kWrong);
    CHECK(state_of(std::string_view("\0", 1)) == State::kWrong);
}
