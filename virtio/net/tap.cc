// SPDX-License-Identifier: Apache-2.0
#include "virtio/net/tap.h"

#include <fcntl.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <time.h>

#include <cerrno>

#include "base/limits.h"
#include "virtio/net/header.h"

namespace wisp::virtio {

namespace {

constexpr unsigned kAllOffloads = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_UFO;
constexpr unsigned kUso = TUN_F_USO4 | TUN_F_USO6;

std::unexpected<Error> explain(const char* name) {
    switch (errno) {
        case EBUSY:
            return fail_errno("tap %s is in use by another process; each interface needs a tap of its own", name);
        case EINVAL:
            return fail_errno(
                "network device %s is no tap that one process can have: make one with `ip tuntap add %s mode tap`",
                name, name);
        case EPERM:
            return fail_errno(
                "tap %s may not be opened or made: make it with `ip tuntap add %s mode tap user USER`, or give this "
                "process CAP_NET_ADMIN",
                name, name);
        default:
            return fail_errno("tap %s cannot be opened", name);
    }
}

}  // namespace

int attach_tap(int fd, const std::string& name) {
    ifreq request{};
    name.copy(request.ifr_name, IFNAMSIZ - 1);
    request.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
    for (unsigned tries = limits::kTapTries;; --tries) {
        if (ioctl(fd, TUNSETIFF, &request) == 0) return 0;
        if (errno != EBUSY || tries <= 1) return -1;
        const timespec pause{0, limits::kTapPause_ns};
        nanosleep(&pause, nullptr);
        errno = EBUSY;
    }
}

Result<Tap> Tap::open(const std::string& name) {
    Tap tap;
    tap.name_ = name;
    if (name.empty() || name.size() >= IFNAMSIZ)
        return fail("tap name %s has not between 1 and %d characters", name.c_str(), IFNAMSIZ - 1);
    tap.fd_ = TRY_CONTEXT("tap " + name, open_file("/dev/net/tun", O_RDWR | O_NONBLOCK));
    if (attach_tap(tap.fd(), name) < 0) return explain(name.c_str());

    int header_size = sizeof(NetHeader);
    if (ioctl(tap.fd(), TUNSETVNETHDRSZ, &header_size) < 0)
        return fail_errno("tap %s has no header of %d bytes", name.c_str(), header_size);
    TRY(tap.set_offloads(kAllOffloads));
    tap.uso_ = tap.set_offloads(kAllOffloads | kUso).has_value();
    TRY(tap.set_offloads(0));
    return tap;
}

Result<void> Tap::set_offloads(unsigned offloads) const {
    if (ioctl(fd(), TUNSETOFFLOAD, static_cast<unsigned long>(offloads)) < 0)
        return fail_errno("tap %s does not take the offloads 0x%x", name_.c_str(), offloads);
    return {};
}

}  // namespace wisp::virtio
