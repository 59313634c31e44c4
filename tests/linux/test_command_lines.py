# SPDX-License-Identifier: Apache-2.0
"""The command lines that clients send by default, with their words on interrupt controllers, buses and tables: the guest boots, and its
drive, network interface and vsock device interrupt."""
import re

import net
import pytest
import vsock_agent
import wisp
from test_boot import INITRD_STOCK, KERNEL, ROOTFS, stock_kernel

SDK = "console=ttyS0 noapic reboot=k panic=1 pci=off nomodules"  # the Go SDK, firectl, firecracker-containerd
KATA = "console=ttyS0 reboot=k panic=1 acpi=off pci=off iommu=off"  # Kata Containers
# Debian's kernel finds its devices by ACPI alone, whose tables say that there is no other interrupt controller than the IO-APIC.
STOCK = "console=ttyS0 reboot=k panic=1 pci=off iommu=off"


def interrupts(output, device):
    """How often a device interrupted, on all CPUs, by /proc/interrupts."""
    counts = re.search(rf"^ *\d+:((?: +\d+)+) .*\b{device}", output, re.M)
    assert counts, output
    return sum(map(int, counts[1].split()))


@pytest.mark.parametrize("vcpus", [1, 4])
@pytest.mark.parametrize("kernel, arguments", [("own", SDK), ("own", KATA), ("stock", STOCK)])
def test_devices_interrupt(tmp_path, kernel, arguments, vcpus):
    own = kernel == "own"
    with net.tap() as tap:
        address = f"ip addr add {tap.guest}/24 dev eth0; ip link set eth0 up"
        config = wisp.machine(KERNEL if own else stock_kernel(), boot_args=f"{arguments} wisp.agent -- /bin/sleep 100000",
                              initrd=None if own else INITRD_STOCK, vcpus=vcpus, mem_mib=256,
                              drives=[wisp.drive(wisp.copy_of(ROOTFS, tmp_path))],
                              vsock={"guest_cid": 3, "uds_path": f"{tmp_path}/v"},
                              **{"network-interfaces": [net.interface(tap.name)]})
        with wisp.Vm(tmp_path, config) as vm:
            agent = vsock_agent.Agent(f"{tmp_path}/v").wait(wisp.LIMIT_S, vm)
            output = agent.shell(f"{address}; ping -c 2 -W 10 {tap.host}; nproc; cat /proc/interrupts").output.decode()
            assert " 0% packet loss" in output and f"\n{vcpus}\n" in output, output
            assert "IO-APIC" in output, output
            assert all(interrupts(output, f"virtio{number}") > 0 for number in range(3)), output
            agent.start(["poweroff", "-f"]).turn(5)
            assert vm.wait().code == wisp.EXIT_OK
