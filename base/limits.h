// SPDX-License-Identifier: Apache-2.0
//
// Every bound of the monitor in one place. What a guest, a client or a file can make us hold, loop over or wait for is
// bounded by a name in here.
#pragma once

#include <cstddef>
#include <cstdint>

namespace wisp::limits {

inline constexpr uint64_t kPageSize = 4096;
inline constexpr uint64_t kHugePageSize = 2 << 20;
inline constexpr uint64_t kMiB = 1 << 20;

// Machine
inline constexpr unsigned kMaxVcpus = 32;           // Firecracker's bound, and what the MP table's area holds
inline constexpr uint64_t kMaxMemoryMib = 1 << 20;  // 1 TiB, below the width of every guest physical address
inline constexpr size_t kMaxCommandLine = 2048;     // bytes, with what the monitor appends; Firecracker's bound
inline constexpr size_t kMaxMmioDevices = 19;       // GSIs 5 to 23: one interrupt each
inline constexpr size_t kMaxSeccompFile = 100'000;  // bytes of an operator's filters; Firecracker's bound
inline constexpr size_t kMaxConfigFile = 1 << 20;   // bytes of a machine file

// Kernel images
inline constexpr unsigned kMaxElfSegments = 64;
inline constexpr size_t kMaxElfNotes = 64 << 10;  // bytes read of one note segment

// virtio
inline constexpr uint16_t kMaxQueueSize = 256;
inline constexpr unsigned kMaxDeviceQueues = 8;
inline constexpr uint64_t kBatchBytes = 1 << 20;  // that a device takes before it tells the driver; see kTurnItemBytes

// virtio-blk
inline constexpr unsigned kBlockInFlight = 128;  // requests of one drive that are taken from its queues at a time
inline constexpr unsigned kBlockSegments = 126;  // data segments of one request (SEG_MAX)
inline constexpr uint32_t kBlockSegmentSize = 128 << 10;  // bytes of one segment (SIZE_MAX)
inline constexpr uint64_t kBlockRequestBytes = uint64_t{kBlockSegments} * kBlockSegmentSize;
inline constexpr uint64_t kBlockInFlightBytes = 16 << 20;   // of one drive; the last request may go beyond
inline constexpr unsigned kBlockWorkers = 512;              // kernel threads for all drives, made as they are needed
inline constexpr unsigned kBlockRetries = 8;                // of one transfer that the host has no memory for …
inline constexpr uint64_t kBlockFirstRetry_ns = 1'000'000;  // … after this time, and then after twice as much each
inline constexpr uint64_t kBlockClose_ns = 5'000'000'000;   // for all drives to finish and flush when the machine ends
inline constexpr unsigned kBlockQueues = 8;                 // of one drive
inline constexpr uint32_t kBlockRangeSectors = 1 << 21;     // of one discard or write-zeroes: 1 GiB

// virtio-vsock
inline constexpr unsigned kVsockConnections = 1023;       // of one device, with those that are being opened or flushed
inline constexpr uint32_t kVsockPacket = 64 << 10;        // bytes of data in one packet, either way
inline constexpr uint32_t kVsockCredit = 1 << 20;         // most a guest may send ahead of its reader, a connection
inline constexpr uint32_t kVsockCreditLeast = 64 << 10;   // what a connection gets when many share …
inline constexpr uint64_t kVsockCreditTotal = 64 << 20;   // … this: bytes granted to all beyond the least
inline constexpr unsigned kVsockParked = 128;             // packets that wait in guest memory for their reader
inline constexpr unsigned kVsockParkedSegments = 18;      // of one such packet; one of more segments is copied
inline constexpr unsigned kVsockResets = 128;             // answers to packets of no connection that wait to be sent
inline constexpr uint32_t kVsockTurnBytes = 256 << 10;    // to the guest, before another connection has its turn
inline constexpr size_t kVsockConnectLine = 32;           // bytes of "CONNECT <port>\n"; Firecracker's bound
inline constexpr unsigned kVsockBacklog = 1024;           // host programs that wait to be accepted
inline constexpr uint64_t kVsockLineTimeout_ms = 60'000;  // for the CONNECT line: a person may be typing it
inline constexpr uint64_t kVsockConnectTimeout_ms =
    2000;  // for the other side to take a connection; Firecracker's bound
inline constexpr uint64_t kVsockShutdownTimeout_ms = 2000;  // for the guest to confirm an end; Firecracker's bound
inline constexpr uint64_t kVsockLingerTimeout_ms = 10'000;  // without progress, for data of a guest that has gone
inline constexpr uint64_t kVsockConnectRetry_ms = 5;        // between attempts while a host program's backlog is full
inline constexpr uint64_t kVsockStallRetry_ms = 250;        // of a socket that took nothing, in case no event tells
inline constexpr uint64_t kVsockAcceptRetry_ms = 20;        // while the host refuses us a descriptor
inline constexpr unsigned kVsockRetriesAtOnce = 16;         // connections of each kind that are tried again at a time
inline constexpr unsigned kVsockDescriptors = kVsockConnections + 256;  // open files that the process should be allowed

// virtio-net
inline constexpr unsigned kNetMaxFrame = 65562;   // bytes with the virtio header: the largest that segmentation leaves
inline constexpr unsigned kNetSendBatch = 32;     // frames of one system call to the tap
inline constexpr unsigned kNetReceiveBatch = 16;  // the same from the tap; each may hold kNetMaxFrame bytes
inline constexpr unsigned kNetSlices = 1024;      // segments of the chains that are in hand, in each direction
inline constexpr uint64_t kNetPatience_ns = 20'000'000;  // for buffers that a waiting frame needs, where there are some
inline constexpr uint64_t kNetExpectation_ns = 200'000;  // for buffers that the next frame may need, in the same case
inline constexpr uint64_t kNetWatchRetry_ms = 10;  // until a tap is asked again that the host could not watch or read
inline constexpr unsigned kTapTries = 20;          // to open a tap that is in use …
inline constexpr long kTapPause_ns = 5'000'000;    // … with so much time between them
inline constexpr unsigned kNetIdleEvents =
    16;  // of a tap whose frames find no buffer, before it is not watched any more

// vCPUs
inline constexpr unsigned kMaxExitsToComplete = 16;           // of one instruction, before its vCPU is paused
inline constexpr uint64_t kPauseDeadline_ns = 5'000'000'000;  // for vCPUs and devices to stand still
inline constexpr uint64_t kEndGrace_ns = 500'000'000;         // for an operation under way, when the process ends
inline constexpr uint64_t kCloseDeadline_ns = kBlockClose_ns + 1'000'000'000;  // for the devices to finish after that
inline constexpr uint64_t kLaneSpin_ns = 200'000;        // for a lane that waits for the other, before it blocks
inline constexpr uint64_t kLaneTakeOver_ns = 1'000'000;  // after which it takes over what it may of the other's steps
inline constexpr unsigned kMaxRunsRefused =
    100'000;  // KVM_RUN with EAGAIN in a row: a vCPU that waits for its INIT has few

// Event loop
inline constexpr size_t kMailboxMessages = 32;       // from another thread, waiting for the loop
inline constexpr uint64_t kTurnBytes = 8 << 20;      // all that the sources of a loop move in one turn
inline constexpr uint64_t kTurn_ns = 2'000'000;      // how long they go on in one turn
inline constexpr uint64_t kTurnItemBytes = 2 << 10;  // a request, frame or packet costs as much as so many bytes
inline constexpr uint64_t kWatchRetry_ms = 10;       // until the host is asked again to watch a descriptor
inline constexpr unsigned kMaxWatches = 512;         // descriptors one loop watches
inline constexpr unsigned kLoopRingEntries = 64;     // submission entries of a loop's ring
inline constexpr unsigned kMaxDescriptorsClosedAfterExit = kMaxVcpus + 1;  // a VM and its vCPUs

// Console
inline constexpr size_t kConsoleOutput = 16 << 10;  // bytes from the guest that wait for the sink
inline constexpr uint64_t kConsolePatience_ms =
    1000;                                    // without a byte taken: then output is dropped until it takes some
inline constexpr size_t kConsoleInput = 64;  // bytes to the guest: the 16550's FIFO of this device

// Records of saved state
inline constexpr size_t kMaxRecordBytes = 64 << 20;  // one record with all that is in it
inline constexpr size_t kMaxRecordsInGroup = 4096;

// HTTP, of the API's clients and of the guest's requests for metadata
inline constexpr size_t kHttpRequestLine = 1024;  // bytes with the line end; Firecracker's bound
inline constexpr size_t kHttpHead = 16 << 10;     // bytes of request line, headers and trailers
inline constexpr size_t kHttpChunkLine = 256;     // bytes of a line between chunks
inline constexpr size_t kHttpQuote = 256;         // bytes of a client's text that an answer repeats

// API. The bound of a body is an argument of the process
inline constexpr size_t kApiConnections = 128;
inline constexpr unsigned kApiBacklog = 1024;    // clients that wait to be accepted
inline constexpr unsigned kApiAccepts = 16;      // in one turn of the loop
inline constexpr size_t kApiReadChunk = 4096;    // bytes read at a time
inline constexpr unsigned kApiServeBudget = 64;  // steps of one connection before others have their turn
inline constexpr unsigned kApiReserve = 4;  // descriptors kept back for clients that come when the process has no more
inline constexpr uint64_t kApiStallTimeout_ns = 10'000'000'000;  // for a request to arrive, and for an answer to leave
inline constexpr uint64_t kApiStallGrace_ns = 1'000'000'000;  // a request that takes longer goes before idle clients do
inline constexpr uint64_t kApiStallCheck_ns = 1'000'000'000;  // between looks at stalled clients
inline constexpr size_t kApiDiscard = 64 << 20;               // bytes that are read and dropped after a refusal

// Metadata service (MMDS)
inline constexpr size_t kMmdsConnections = 30;      // of one interface; Firecracker's bound
inline constexpr size_t kMmdsReceiveBuffer = 2500;  // bytes of a connection; Firecracker's bound
inline constexpr size_t kMmdsBody = 2048;           // bytes of a request's body
inline constexpr uint64_t kMmdsRetransmit_ms = 1200;
inline constexpr unsigned kMmdsRetries = 15;
inline constexpr uint64_t kMmdsIdle_ms = 40'000;      // after which a new connection may take the place of an old one
inline constexpr uint64_t kMmdsPause_ns = 1'000'000;  // until a turn that has budget left for another answer

// Log and metrics
inline constexpr unsigned kLogBurst = 10;      // lines of one call site …
inline constexpr uint64_t kLogInterval_s = 5;  // … in this many seconds; the rest are counted
inline constexpr uint64_t kMetricsInterval_s = 60;

}  // namespace wisp::limits
