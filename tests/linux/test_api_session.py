# SPDX-License-Identifier: Apache-2.0
"""A client's whole session with a Linux guest: configure, start, change, pause, resume, stop. The guest says what it sees."""
import json
import re
import time

import net
import wisp
from api import ApiVm
from test_boot import CONSOLE, INITRD_STOCK, KERNEL, ROOTFS, stock_kernel

MAC = "06:00:ac:10:00:02"

# Runs in the guest. What waits for the host's next step asks every tenth of a second.
SCRIPT = r"""
say() { echo "guest: $*"; }
say cpus $(grep -c ^processor /proc/cpuinfo) online $(cat /sys/devices/system/cpu/online)
say memory $(sed -n 's/^MemTotal: *\([0-9]*\) kB/\1/p' /proc/meminfo)
for d in vda vdb vdc; do say $d $(cat /sys/block/$d/size) ro $(cat /sys/block/$d/ro); done
say eth0 $(cat /sys/class/net/eth0/address) mtu $(cat /sys/class/net/eth0/mtu)
say flags $(sed -n 's/^flags.*: //p' /proc/cpuinfo | head -1)
say model $(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -1)
ip route add 169.254.169.254 dev eth0
fetch() { printf "$1" | nc 169.254.169.254 80; }
token=$(fetch 'PUT /latest/api/token HTTP/1.1\r\nX-metadata-token-ttl-seconds: 60\r\n\r\n' | tail -1)
say metadata $(fetch "GET /latest/name HTTP/1.1\r\nX-metadata-token: $token\r\nAccept: application/json\r\n\r\n" | tail -1)
say without a token: $(fetch 'GET /latest/name HTTP/1.1\r\n\r\n' | head -1)
while [ $(cat /sys/block/vdb/size) = 16384 ]; do usleep 100000; done
say vdb now $(cat /sys/block/vdb/size) $(head -c 9 /dev/vdb)
while ! fetch "GET /latest/name HTTP/1.1\r\nX-metadata-token: $token\r\n\r\n" | grep -q changed; do usleep 100000; done
say metadata changed
i=0; while :; do i=$((i + 1)); say tick $i; usleep 100000; done
"""


def script_drive(path):
    path.write_bytes(SCRIPT.encode() + b"\n" * (-len(SCRIPT) % 512))
    return wisp.drive(path, id="script", root=False, read_only=True)


def facts(output):
    return dict(re.findall(r"guest: (\w+) ([^\r\n]*)", output))


def ticks(vm):
    return len(re.findall(r"guest: tick \d+\r?\n", vm.output))


def wait_for_tick(vm, more_than):
    deadline = time.monotonic() + wisp.LIMIT_S
    while ticks(vm) <= more_than:
        assert time.monotonic() < deadline, vm.output
        time.sleep(0.01)


def test_a_whole_session(tmp_path):
    data, larger = tmp_path / "data", tmp_path / "larger"
    data.write_bytes(b"small one".ljust(8 << 20, b"\0"))
    larger.write_bytes(b"large one".ljust(16 << 20, b"\0"))
    metrics = tmp_path / "metrics"
    with net.tap() as tap, ApiVm(tmp_path, "--id", "session-1") as vm:
        assert json.loads(vm.get("/"))["state"] == "Not started"
        vm.put("/logger", {"level": "Info", "show_level": True})
        vm.put("/metrics", {"metrics_path": str(metrics)})
        vm.configure(KERNEL, vcpus=2, mem_mib=256, boot_args=f"{CONSOLE} {tap.kernel_argument} -- /bin/sh /dev/vdc",
                     drives=[wisp.drive(wisp.copy_of(ROOTFS, tmp_path)), wisp.drive(data, id="data", root=False), script_drive(tmp_path / "script")])
        vm.put("/network-interfaces/eth0", net.interface(tap.name, guest_mac=MAC, mtu=1400))
        vm.put("/mmds/config", {"version": "V2", "network_interfaces": ["eth0"]})
        vm.put("/mmds", {"latest": {"name": "from the host"}})
        # RDRAND and SSE4A are hidden: two leaves, one in each half of the table.
        vm.put("/cpu-config", {"cpuid_modifiers": [
            {"leaf": "0x1", "subleaf": "0x0", "flags": 0, "modifiers": [{"register": "ecx", "bitmap": "0bx0xx_xxxx_xxxx_xxxx_xxxx_xxxx_xxxx_xxxx"}]},
            {"leaf": "0x80000001", "subleaf": "0x0", "flags": 0, "modifiers": [{"register": "ecx", "bitmap": "0b0xxxxxx"}]}]})
        vm.act("InstanceStart")
        vm.wait_for("guest: without a token: HTTP/1.1 401")
        seen = facts(vm.output)
        assert seen["cpus"] == "2 online 0-1"
        assert 256 * 0.9 - 16 < int(seen["memory"]) / 1024 <= 256
        assert seen["vdb"] == f"{(8 << 20) // 512} ro 0" and seen["vdc"].endswith(" ro 1")
        assert seen["eth0"] == f"{MAC} mtu 1400"
        flags = seen["flags"].split()
        assert "sse4_2" in flags and "hypervisor" in flags and "rdrand" not in flags and "sse4a" not in flags
        assert seen["model"] in ("AMD EPYC", "") or seen["model"].startswith("Intel(R) Xeon(R) Processor")
        assert seen["metadata"] == '"from the host"'

        vm.patch("/drives/data", {"drive_id": "data", "path_on_host": str(larger),
                                  "rate_limiter": {"ops": {"size": 1000, "refill_time": 100}}})
        vm.wait_for("guest: vdb now 32768 large one")
        vm.patch("/network-interfaces/eth0", {"iface_id": "eth0", "rx_rate_limiter": {"bandwidth": {"size": 1 << 20, "refill_time": 100}}})
        vm.patch("/mmds", {"latest": {"name": "changed"}})
        vm.wait_for("guest: metadata changed")
        config = json.loads(vm.get("/vm/config"))
        assert config["drives"][1]["path_on_host"] == str(larger) and config["drives"][1]["rate_limiter"]["ops"]["size"] == 1000
        assert config["network-interfaces"][0]["rx_rate_limiter"]["bandwidth"]["size"] == 1 << 20

        wait_for_tick(vm, 0)
        vm.patch("/vm", {"state": "Paused"})
        assert json.loads(vm.get("/"))["state"] == "Paused"
        time.sleep(0.3)  # what was on its way to the test arrives
        before = ticks(vm)
        time.sleep(1)
        assert ticks(vm) == before, "a paused guest went on"
        vm.patch("/vm", {"state": "Resumed"})
        wait_for_tick(vm, before + 2)

        vm.act("FlushMetrics")
        assert vm.end() == -15
        vm.wait_for("stopped by Terminated")
    lines = [json.loads(line) for line in metrics.open()]
    total = lambda group, key: sum(line[group][key] for line in lines if group in line)
    assert len(lines) == 3
    assert total("block_rootfs", "read_bytes") > 1 << 20 and total("block_data", "update_count") == 1
    assert total("mmds", "rx_accepted") > 0 and total("net_eth0", "tx_packets_count") >= 0
    assert total("latencies_us", "pause_vm") > 0 and total("vcpu", "exit_io_out") > 100


def test_ctrl_alt_del_restarts_a_stock_kernel(tmp_path):
    with ApiVm(tmp_path) as vm:
        vm.put("/boot-source", {"kernel_image_path": stock_kernel(), "initrd_path": INITRD_STOCK,
                                "boot_args": f"{CONSOLE} quiet -- /bin/sh -c \"cat /proc/interrupts; echo the guest waits; sleep 1000\""})
        vm.put("/machine-config", {"vcpu_count": 1, "mem_size_mib": 256})
        vm.put("/drives/rootfs", wisp.drive(wisp.copy_of(ROOTFS, tmp_path)))
        vm.act("InstanceStart")
        vm.wait_for("the guest waits\r\n")
        assert re.search(r"IO-APIC +1-edge +i8042", vm.output), vm.output
        vm.act("SendCtrlAltDel")
        assert vm.process.wait(wisp.LIMIT_S) == wisp.EXIT_OK, vm.output
        vm.wait_for("the guest reset the machine")
