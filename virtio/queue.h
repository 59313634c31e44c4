// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
namespace wisp::virtio {
class Queue {};
}  // namespace wisp::virtio
