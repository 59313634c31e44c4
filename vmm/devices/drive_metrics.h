// SPDX-License-Identifier: Apache-2.0
//
// The metrics of drives, by Firecracker's keys.
#pragma once

#include "base/metrics.h"
#include "virtio/block/counters.h"

namespace wisp {

/// Tells a drive's counters, in the visitor's group.
void visit_block_counters(const virtio::BlockCounters& counters, MetricsVisitor& visitor);

/// Adds a drive's counters to a sum.
void add_block_counters(virtio::BlockCounters& sum, const virtio::BlockCounters& part);

}  // namespace wisp
