// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace wisp {

inline constexpr char kWispVersion[] = "0.1.0";

/// The Firecracker whose API Wisp speaks: what version checks of its clients get to see.
inline constexpr char kFirecrackerVersion[] = "1.17.0";

}  // namespace wisp
