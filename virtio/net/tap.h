// SPDX-License-Identifier: Apache-2.0
//
// Tap: a network device of the host whose cable ends in this process (Documentation/networking/tuntap.rst). Each frame
// has a virtio header in front.
#pragma once

#include <string>

#include "base/fd.h"
#include "base/result.h"

namespace wisp::virtio {

/// Makes an open /dev/net/tun the tap of that name; -1 and errno if it cannot be. Waits a little for one that is in
/// use: a process that was killed lets go of its tap some milliseconds after its end.
int attach_tap(int fd, const std::string& name);

class Tap {
public:
    /// Opens the tap of that name, or makes one that goes when it is closed (which needs CAP_NET_ADMIN). Non-blocking.
    /// Errors name the tap and say what to do: it is another's (EBUSY), it is no tap (EINVAL), it may not be opened or
    /// made (EPERM), there is no /dev/net/tun (ENOENT).
    static Result<Tap> open(const std::string& name);

    int fd() const { return fd_.get(); }
    const std::string& name() const { return name_; }
    /// Whether it does UDP segmentation (Linux 6.2).
    bool has_uso() const { return uso_; }
    /// TUN_F_*: what frames from the tap may have left to do.
    Result<void> set_offloads(unsigned offloads) const;

private:
    std::string name_;
    OwnedFd fd_;
    bool uso_ = false;
};

}  // namespace wisp::virtio
