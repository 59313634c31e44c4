# SPDX-License-Identifier: Apache-2.0
"""virtio-net on a real tap, driven from ring 3 by the bench guest; and every way in which a tap can be refused.

Frames go to bench/net_peer on a packet socket, which sends them back: the guest compares them byte by byte."""
import json
import os
import subprocess

import net
import pytest
import wisp

PEER = f"{wisp.TOOLS}/net_peer"
GUEST = f"{wisp.TOOLS}/net_guest"


@pytest.fixture(scope="module", autouse=True)
def namespace():
    with net.own_namespace():
        yield


@pytest.fixture
def tap():
    with net.tap(address=False) as made:
        yield made


@pytest.fixture
def echo(tap):
    peer = subprocess.Popen([PEER, "echo", tap.name], stdout=subprocess.PIPE)
    assert peer.stdout.readline() == b"ready\n"
    yield peer
    peer.kill()
    peer.wait()


def machine(tap_name, arguments="", **more):
    more["network-interfaces"] = [net.interface(tap_name)]
    return wisp.machine(GUEST, boot_args=f"console=ttyS0 {arguments}", mem_mib=64, **more)


def run_guest(tmp_path, tap, arguments, **more):
    result = wisp.run(tmp_path, machine(tap.name, arguments, **more))
    assert result.code == wisp.EXIT_OK, result
    line = next((line for line in result.output.splitlines() if "result " in line), None)
    assert line, result
    return dict(part.split("=") for part in line[line.index("result "):].split()[1:])


@pytest.mark.parametrize("buffer", [1536, 300, 64, 4096])
def test_frames_come_back_as_they_were(tmp_path, tap, echo, buffer):
    got = run_guest(tmp_path, tap, f"work=verify size=1514 count=1000 buffer={buffer} seed={buffer}")
    assert got["errors"] == "0" and got["frames"] == "1000", got


def test_large_frames(tmp_path, echo, tap):
    net.ip("link", "set", tap.name, "mtu", "65521")
    got = run_guest(tmp_path, tap, "work=verify size=65000 count=200 buffer=2048")
    assert got["errors"] == "0" and got["frames"] == "200", got


@pytest.mark.parametrize("direction, limiter", [("tx", {"ops": {"size": 10, "refill_time": 100}}),
                                                ("rx", {"bandwidth": {"size": 500, "refill_time": 100}})])
def test_rate_limiter(tmp_path, tap, echo, direction, limiter):
    """One at a time: frames go round in a circle, so only the tighter of two would ever act."""
    config = machine(tap.name, "work=verify size=100 count=60")
    config["network-interfaces"][0][f"{direction}_rate_limiter"] = limiter
    config["metrics"] = {"metrics_path": str(tmp_path / "metrics")}
    result = wisp.run(tmp_path, config)
    assert "errors=0" in result.output, result
    counted = json.loads(open(tmp_path / "metrics").read().splitlines()[-1])["net_eth0"]
    assert counted[f"{direction}_rate_limiter_throttled"] > 0, counted
    assert counted["tx_packets_count"] == 60 and counted["rx_packets_count"] >= 60, counted
    assert counted["tx_malformed_frames"] == counted["tx_fails"] == 0, counted


def test_the_tap_is_free_when_the_process_has_ended(tmp_path, tap, echo):
    for _ in range(3):
        run_guest(tmp_path, tap, "work=verify size=100 count=5")
        os.close(net.open_tun(tap.name))


def refused(tmp_path, config, *wrapper):
    result = wisp.run(tmp_path, config, wrapper=wrapper)
    assert result.code == wisp.EXIT_BAD_CONFIGURATION, result
    return result.errors


def test_a_tap_in_use(tmp_path, tap):
    fd = net.open_tun(tap.name)
    assert f"network interface eth0: tap {tap.name} is in use by another process" in refused(tmp_path, machine(tap.name))
    os.close(fd)


def test_a_tun_is_no_tap(tmp_path):
    net.ip("tuntap", "add", "wtun0", "mode", "tun")
    assert "network device wtun0 is no tap" in refused(tmp_path, machine("wtun0"))


def test_another_network_device_is_no_tap(tmp_path):
    assert "network device lo is no tap" in refused(tmp_path, machine("lo"))


def test_a_tap_that_may_not_be_made(tmp_path):
    """A tap that does not exist is made, by those who may."""
    errors = refused(tmp_path, machine("wnone0"), "setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin")
    assert "tap wnone0 may not be opened or made" in errors and "CAP_NET_ADMIN" in errors


def test_a_mac_address_twice(tmp_path, tap):
    with net.tap(address=False) as second:
        config = machine(tap.name)
        config["network-interfaces"] = [net.interface(tap.name, guest_mac="06:00:00:00:00:01"),
                                        net.interface(second.name, id="eth1", guest_mac="06:00:00:00:00:01")]
        assert "The MAC address is already in use: 06:00:00:00:00:01" in refused(tmp_path, config)
