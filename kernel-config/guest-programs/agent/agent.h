// SPDX-License-Identifier: Apache-2.0
// The guest's agent: runs commands that a host program sends over vsock. The protocol is in ../../README.md.
// One program, called as wisp-agent or vsock-connect.
#pragma once

#include <linux/vm_sockets.h>

#include "init.h"

constexpr unsigned kDefaultPort = 1024;
constexpr size_t kMaxPayload = 65536;

enum class FrameType : uint8_t {
    kRun = 1,
    kInput = 2,
    kSignal = 3,
    kOutput = 17,
    kError = 18,
    kExit = 19,
};

struct FrameHeader {
    FrameType type;
    uint8_t zero[3];
    uint32_t length;  // of the payload that follows; little-endian, as this processor is
};
static_assert(sizeof(FrameHeader) == 8);

// A number at the start of a text; 0 where there is none.
unsigned number_of(const char* text);
sockaddr_vm vsock_address(unsigned cid, unsigned port);

// -- serve.cc: one connection, from its first frame to its last; the process ends with it
[[noreturn]] void serve(int connection);

// -- connect.cc: vsock-connect PORT: standard input and output to and from a port of the host
int connect_to_host(unsigned port);
