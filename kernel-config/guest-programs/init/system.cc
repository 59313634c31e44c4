// SPDX-License-Identifier: Apache-2.0
// Host name and loopback interface.

#include <net/if.h>
#include <sys/ioctl.h>

#include "init.h"

void set_host_name() {
    char name[65] = "wisp";
    size_t size = 4;
    if (const int file = sys::open("/etc/hostname", O_RDONLY); file >= 0) {
        const long got = sys::read(file, name, sizeof name - 1);
        sys::close(file);
        size = 0;
        while (static_cast<long>(size) < got && name[size] > ' ') size++;
    }
    if (size > 0) sys::sethostname(name, size);
}

void bring_up_loopback() {
    const int fd = sys::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC);
    if (fd < 0) return;  // a kernel without IPv4 has no loopback to bring up
    ifreq request{};
    request.ifr_name[0] = 'l';
    request.ifr_name[1] = 'o';
    request.ifr_flags = IFF_UP;  // the kernel gives it 127.0.0.1 by itself
    if (const int error = sys::ioctl(fd, SIOCSIFFLAGS, &request); error < 0) {
        say("init: cannot bring up lo: ", error_text(error));
    }
    sys::close(fd);
}
