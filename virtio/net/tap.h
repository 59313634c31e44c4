// SPDX-License-Identifier: Apache-2.0
//
// Tap: a network device of the host whose cable ends in this process (Documentation/networking/tuntap.rst). Each frame
// has a virtio header in front.
#pragma once

#include <string>

#include "base/fd.h"
#include "base/result.h"

namespace wisp::virtio {

/// Attaches an open /dev/net/tun to the tap of that name; -1 and errno if that fails. Tries again for a short time
/// while the tap is in use, because the kernel closes the tap of a killed process some milliseconds after its end.
int attach_tap(int fd, const std::string& name);

class Tap {
public:
    /// Opens the tap of that name, non-blocking. Where there is none, makes one that lasts until it is closed, which
    /// needs CAP_NET_ADMIN. Errors name the tap and the remedy: another process has it (EBUSY), it is no tap (EINVAL),
    /// it may not be opened or made (EPERM), there is no /dev/net/tun (ENOENT).
    static Result<Tap> open(const std::string& name);

    int fd() const { return fd_.get(); }
    const std::string& name() const { return name_; }
    /// Whether it does UDP segmentation (Linux 6.2).
    bool has_uso() const { return uso_; }
    /// TUN_F_*: the checksums and segmentation that frames from the tap may leave to the guest.
    Result<void> set_offloads(unsigned offloads) const;

private:
    std::string name_;
    OwnedFd fd_;
    bool uso_ = false;
};

}  // namespace wisp::virtio
