# SPDX-License-Identifier: Apache-2.0
"""Taps for tests, and what a host does with them."""
import contextlib
import fcntl
import itertools
import os
import struct
import subprocess

BUSYBOX = "/bin/busybox"
TUNSETIFF = 0x400454CA
IFF_TUN, IFF_TAP, IFF_NO_PI, IFF_VNET_HDR = 1, 2, 0x1000, 0x4000
_numbers = itertools.count(1)


def ip(*arguments):
    subprocess.run(["ip", *map(str, arguments)], check=True, capture_output=True, text=True)


class Tap:
    """A tap with an address; `guest` is that of the guest on its other end."""

    def __init__(self, *, mtu=None, address=True):
        number = next(_numbers)
        self.name = f"wtap{os.getpid() % 10000}n{number}"
        self.host, self.guest = f"10.77.{number}.1", f"10.77.{number}.2"
        ip("tuntap", "add", self.name, "mode", "tap")
        if mtu:
            ip("link", "set", self.name, "mtu", mtu)
        if address:
            ip("address", "add", f"{self.host}/24", "dev", self.name)
        ip("link", "set", self.name, "up")

    @property
    def kernel_argument(self):
        return f"ip={self.guest}::{self.host}:255.255.255.0::eth0:off"

    def remove(self):
        subprocess.run(["ip", "link", "delete", self.name], check=False, capture_output=True)


@contextlib.contextmanager
def tap(**options):
    made = Tap(**options)
    try:
        yield made
    finally:
        made.remove()


def interface(tap_name, *, id="eth0", **more):
    return {"iface_id": id, "host_dev_name": tap_name, **more}


def open_tun(name, flags=IFF_TAP | IFF_NO_PI | IFF_VNET_HDR):
    fd = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), flags))
    return fd
