#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the seeds of tests/fuzz/corpus: one well-formed input of each kind, from which a fuzzer finds the rest sooner. Files that
a fuzzer has found (crash-*) are kept beside them."""
import os
import struct

HERE = os.path.dirname(os.path.abspath(__file__))


def seed(target, name, content):
    folder = f"{HERE}/corpus/{target}"
    os.makedirs(folder, exist_ok=True)
    with open(f"{folder}/{name}", "wb") as out:
        out.write(content.encode() if isinstance(content, str) else content)


def at(size, **pieces):
    """Bytes with pieces at offsets: at(64, _16=b"…")."""
    out = bytearray(size)
    for offset, piece in pieces.items():
        start = int(offset[1:])
        out[start:start + len(piece)] = piece
    return bytes(out)


def descriptor(address, length, flags, following=0):
    return struct.pack("<QIHH", address, length, flags, following)


def queue(name, table, available, *, size=8, features=1 << 29 | 1 << 28, extra=None):
    head = struct.pack("<HQQQHHQ", size, 0, 0x400, 0x600, 0, 0, features)
    seed("queue", name, head + at(0x700, _0=table, _1024=available, **(extra or {})))


def queues():
    ring = struct.pack("<HHHH", 0, 2, 0, 3)
    queue("two_chains", descriptor(0x1000, 16, 1, 1) + descriptor(0x2000, 512, 3, 2) + descriptor(0x3000, 1, 2) + descriptor(0, 9, 0),
          ring)
    queue("loop", descriptor(0x1000, 16, 1, 0), struct.pack("<HHH", 0, 1, 0))
    queue("indirect", descriptor(0x680, 32, 4), struct.pack("<HHH", 0, 1, 0),
          extra={"_1664": descriptor(0x1000, 16, 1, 1) + descriptor(0x2000, 4, 2)})
    queue("far_ahead", b"", struct.pack("<HH", 0, 9))
    queue("buffer_over_rings", descriptor(0, 0x700, 2), struct.pack("<HHH", 0, 1, 0), features=0)


def block_requests():
    def request(name, kind, sector, lengths, writable_from, data=b""):
        seed("block_request", name, struct.pack("<BQBB", 0x0e, 1 << 34, len(lengths) - 1, writable_from)
             + struct.pack(f"<{len(lengths)}H", *lengths) + struct.pack("<IIQ", kind, 0, sector) + data)

    request("read", 0, 8, [16, 4096, 1], 1)
    request("write", 1, 8, [16, 4096, 1], 2)
    request("flush", 4, 0, [16, 1], 1)
    request("id", 8, 0, [16, 20, 1], 1)
    request("discard", 11, 0, [16, 16, 1], 2, struct.pack("<QII", 8, 8, 0))
    request("write_zeroes", 13, 0, [16, 16, 1], 2, struct.pack("<QII", 8, 8, 1))
    request("in_pieces", 1, 8, [1, 7, 8, 300, 212, 0, 1], 6)


def drives():
    """Scripts of tests/fuzz/block.cc: the seed of the faults, then its operations."""
    request = lambda kind, sector, shape: struct.pack("<BBBBHBB", 0, kind, sector, shape, 0x100 * (sector % 16), 8, 8)
    kick, step, turn, reset, pause, replace = b"\3", b"\4\7", b"\5", b"\6\xff\xff\xff\xff", b"\7", b"\x08\1"
    everything = b"".join(request(kind, kind, 0x10 if kind < 4 else 4) for kind in range(7))
    head, race = struct.pack("<I", 2), struct.pack("<I", 3)
    seed("block", "race", race + everything + kick + step + everything)
    seed("block", "all_types", head + everything + kick + step + turn)
    seed("block", "paused", head + everything + kick + pause + everything + kick + step)
    seed("block", "reset", head + everything + kick + reset + everything + kick + step + turn)
    seed("block", "replaced", head + everything + kick + replace + everything + kick + step + turn)


def requests():
    seed("http", "get", "\0GET /version HTTP/1.1\r\nHost: localhost\r\n\r\n")
    seed("http", "put", '\4PUT /machine-config HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 16\r\n\r\n{"vcpu_count":1}')
    seed("http", "two", "\1GET / HTTP/1.1\r\n\r\nPATCH /vm HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}")
    seed("http", "expect", "\7PUT /mmds HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n{}")
    seed("http", "chunked", "\7PUT /mmds HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n")
    seed("http", "too_long", "\x20PUT /mmds HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n")
    for flags in (0, 1, 2, 3):
        head = chr(flags)
        seed("mmds_request", f"get_{flags}", head + "GET /latest/meta-data HTTP/1.1\r\nAccept: application/json\r\n\r\n"
             "GET http://169.254.169.254/latest/ HTTP/1.0\r\n\r\n")
        seed("mmds_request", f"token_{flags}", head + "PUT /latest/api/token HTTP/1.1\r\nX-metadata-token-ttl-seconds: 60\r\n\r\n"
             "PUT /latest/api/token HTTP/1.1\r\nX-Forwarded-For: a\r\n\r\nGET / HTTP/1.1\r\nX-metadata-token: abc\r\n\r\n")


def frames():
    ethernet = bytes.fromhex("060123456701020000000001")

    def tcp(flags, sequence, acknowledged, text=b"", options=b""):
        segment = struct.pack(">HHIIBBHHH", 4000, 80, sequence, acknowledged, (5 + len(options) // 4) << 4, flags, 60000, 0, 0) + options + text
        ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(segment), 0, 0, 64, 6, 0, bytes([10, 0, 0, 2]), bytes([169, 254, 169, 254]))
        total = sum(struct.unpack(">10H", ip))
        total = (total & 0xffff) + (total >> 16)
        total = (total & 0xffff) + (total >> 16)
        ip = ip[:10] + struct.pack(">H", ~total & 0xffff) + ip[12:]
        return ethernet + b"\x08\0" + ip + segment

    def session(name, *frames):
        seed("mmds", name, b"\0" + b"".join(struct.pack("<HB", len(frame), 1) + frame for frame in frames))

    arp = b"\xff" * 6 + ethernet[6:] + struct.pack(">HHHBBH6s4s6s4s", 0x806, 1, 0x800, 6, 4, 1, ethernet[6:], bytes([10, 0, 0, 2]), b"\0" * 6,
                                                   bytes([169, 254, 169, 254]))
    session("arp", arp)
    session("get", tcp(2, 99, 0, options=b"\2\4\5\xb4"), tcp(16, 100, 2), tcp(24, 100, 2, b"GET / HTTP/1.1\r\n\r\n"), tcp(17, 118, 2))
    session("reset", tcp(2, 0xffffffff, 0), tcp(4, 0, 2))
    session("no_connection", tcp(16, 5, 5, b"x"))
    session("odd_options", tcp(2, 1, 0, options=b"\2\0\1\1"), tcp(2, 1, 0, options=b"\2\4\0\0"))


def internet_sum(data):
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


def net_scripts():
    """Operations in the order of tests/fuzz/net.cc."""
    def send(frame, header=bytes(12), cut=65535, more=0):
        return b"\0" + struct.pack("<HH", cut, 12 + len(frame)) + header + frame + bytes([more])

    def post(count, size, cut=65535):
        return b"\1" + struct.pack("<BHH", count, size, cut)

    def arrive(frame, header=bytes(12), more=0):
        return b"\2" + struct.pack("<H", 12 + len(frame)) + header + frame + bytes([more])

    turn = b"\x08"
    plain = bytes.fromhex("02020202020206060606060688b5") + bytes(46)
    tcp = bytes.fromhex("0202020202020606060606060800450005dc00000000400600000a0000010a000002") + bytes(12) + b"\x50\x10" + bytes(30)
    gso = struct.pack("<BBHHHHH", 1, 1, 54, 1448, 34, 16, 0)
    arp = b"\xff" * 6 + bytes.fromhex("0601234567010806000108000604000106012345670 10a000002000000000000a9fea9fe".replace(" ", ""))
    ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 44, 0, 0, 64, 6, 0, bytes([10, 0, 0, 2]), bytes([169, 254, 169, 254]))
    ip = ip[:10] + struct.pack(">H", internet_sum(ip)) + ip[12:]
    syn = bytes.fromhex("0601234567010200000000010800") + ip + struct.pack(">HHIIBBHHH", 4000, 80, 99, 0, 0x60, 2, 60000, 0, 0) + b"\2\4\5\xb4"
    seed("net", "send", b"\0" + send(plain) + turn + send(plain, cut=7) + turn)
    seed("net", "send_large", b"\0" + send(tcp, gso, more=250) + send(tcp, gso, cut=1000, more=255))
    seed("net", "send_wrong", b"\0" + send(b"", b"\0" * 5) + send(plain, b"\1" + bytes(5) + b"\xff\xff\xff\xff\0\0") + send(plain, b"\0\1" + bytes(10)))
    seed("net", "receive", b"\0" + post(8, 1536) + arrive(plain) + turn + arrive(plain, more=20) + turn + arrive(b"") + turn)
    seed("net", "receive_merged", b"\0" + post(31, 64, 16) + arrive(tcp, gso, more=5) + turn + post(31, 300) + turn)
    seed("net", "receive_unmerged", b"\0" + b"\6" + struct.pack("<Q", 1 << 29) + post(4, 1000) + arrive(plain) + arrive(tcp, gso) + arrive(plain, more=9) + turn)
    seed("net", "full_tap", b"\0" + b"\5\0" + send(plain) + send(plain) + turn + b"\5\1" + turn + b"\7\7" + b"\5\xff" + turn)
    seed("net", "no_buffers", b"\x10" + arrive(plain) * 5 + turn + post(31, 100) + turn + b"\7" + arrive(plain) + turn + b"\7" + turn)
    seed("net", "faults", b"\x0a" + b"\x09\1\1" + post(4, 2000) + send(plain) + arrive(plain) + turn + b"\x09\0\0" + turn)
    seed("net", "metadata", b"\1" + post(31, 1536) + send(arp) + turn + send(syn) + turn + send(syn, cut=20) + turn)
    seed("net", "any_chain", b"\0" + b"\3\1\xe1" + descriptor(0x10000, 12, 1, 1)[:12] + b"\1" + descriptor(0xfffffffffffff000, 99, 3)[:12] + b"\3")
    seed("net", "reset", b"\0" + b"\5\0" + send(plain) + post(3, 99) + arrive(plain) + b"\6" + bytes(8) + turn + send(plain, gso) + b"\6" + b"\xff" * 8)
    seed("net", "race", b"\x40" + struct.pack("<I", 1) + post(31, 300) + arrive(plain) * 3 + send(plain) * 3 + turn)
    seed("net", "race_metadata", b"\x41" + struct.pack("<I", 2) + post(31, 1536) + send(arp) + send(syn) + turn)
    seed("net", "limits", b"\x18" + post(31, 500) + send(plain) * 9 + arrive(plain) * 9 + turn * 3)


def vsock_scripts():
    """Operations in the order of tests/fuzz/vsock.cc."""
    request, response, reset, shutdown, data, update, ask = range(1, 8)
    host, guest = 0x04, 0x08  # ports: 52 and the last host program's; 1024 and 5000

    def packet(op, ports, size=0, change=0, extra=b""):
        return bytes([0, change, ports, op]) + extra + struct.pack("<H", size)

    def post(count, size, cut=65535):
        return b"\2" + struct.pack("<BHH", count, size, cut)

    def script(name, operations, race=None):
        seed("vsock", name, (b"\0" if race is None else b"\1" + struct.pack("<I", race)) + operations)

    turn, connect, accept = b"\x0d", b"\5", b"\x0a"
    write, more, read, close = b"\6\0\0", b"\6\0\3\5hello\x40", b"\7\0\xff\xff", b"\x09\0"
    opened = post(16, 4140) + connect + turn + write + packet(response, host) + turn
    script("from_host", opened + more + packet(data, host, 5000) + read + packet(shutdown, host) + turn + close + turn)
    script("from_host_in_pieces", post(8, 4140) + connect + b"\6\0\1\4CONN" + b"\6\0\1\7ECT 52\n" + packet(response, host) + more)
    script("wrong_line", connect + b"\6\0\1\4GET " + turn + connect + close + turn)
    script("from_guest", post(16, 4140) + packet(request, guest) + turn + accept + packet(data, guest, 60000) * 4 + read * 2
         + packet(data, guest, 1) + more + packet(update, guest) + packet(ask, guest) + packet(reset, guest) + turn)
    script("half_close", post(16, 4140) + packet(request, guest) + accept + b"\x08\0\1" + turn + packet(data, guest, 9) + read
         + packet(shutdown, guest, change=4, extra=struct.pack("<I", 1)) + close + turn)
    script("nobody_listens", post(3, 44) + packet(request, 0x18) + packet(data, guest, 3) + turn)
    script("no_credit", post(16, 100) + packet(request, guest, change=1, extra=struct.pack("<I", 10)) + accept + more + turn
         + packet(update, guest, change=3, extra=struct.pack("<II", 10, 10)) + turn)
    script("beyond_credit", post(16, 100) + packet(request, guest) + packet(data, guest, 65000) * 20)
    script("wrong_headers", post(16, 100) + packet(request, guest) + packet(0, guest) + packet(8, guest) +
         packet(data, guest, 5, 64, struct.pack("<I", 1 << 31)) + packet(data, guest, 5, 8, b"\2\0") + packet(data, guest, 5, 16, b"\xff" * 8))
    script("raw", b"\1" + struct.pack("<HH", 3, 20) + bytes(20) + b"\3\1\x81" + descriptor(0x10000, 44, 1)[:4] + b"\x2c\0\0")
    script("small_buffers", post(4, 10) + post(8, 45, 3) + opened + more + b"\x0e" + turn)
    script("reset_and_pause", opened + more + b"\x0c" + packet(data, host, 99) + turn + b"\x0c" + turn + b"\x0b" + turn + b"\x0c\x0b" + packet(request, guest))
    script("race", opened + more * 3 + packet(data, host, 5000) * 3 + turn, race=1)
    script("race_from_guest", post(16, 100) + packet(request, guest) + accept + packet(data, guest, 3000) * 4 + read, race=2)


JSON = """{"boot-source": {"kernel_image_path": "/k", "boot_args": "a=b", "initrd_path": "/i"},
"machine-config": {"vcpu_count": 2, "mem_size_mib": 128, "smt": false, "huge_pages": "2M", "track_dirty_pages": true},
"drives": [{"drive_id": "r", "path_on_host": "/d", "is_root_device": true, "is_read_only": false, "io_engine": "Async",
"rate_limiter": {"ops": {"size": 1, "refill_time": 2, "one_time_burst": 3}}}],
"network-interfaces": [{"iface_id": "e", "host_dev_name": "t", "guest_mac": "06:00:00:00:00:01", "mtu": 1500}],
"vsock": {"guest_cid": 3, "uds_path": "/v"}, "mmds-config": {"network_interfaces": ["e"], "version": "V2"},
"logger": {"log_path": "/l", "level": "Info"}, "metrics": {"metrics_path": "/m"}, "cpu-config": {"cpuid_modifiers": []}}"""
TOML = """# a machine
[boot-source]
kernel_image_path = "/k"
boot_args = '''a
b'''
[machine-config]
vcpu_count = 0x2
mem_size_mib = 1_28
[[drives]]
drive_id = "r"
path_on_host = "/d"
is_root_device = true
is_read_only = false
rate_limiter = { ops = { size = 1, refill_time = 2 } }
[vsock]
guest_cid = 3
uds_path = "/v"
"""


def configurations():
    seed("config_json", "all", JSON)
    seed("config_json", "escapes", '{"boot-source": {"kernel_image_path": "\\u00e9\\ud83d\\ude00\\n", "kernel_image_path": 1e400}}')
    seed("config_json", "deep", "[" * 400)
    seed("config_toml", "all", TOML)
    seed("config_toml", "odd", 'drives = []\na."b c".d = 1979-05-27T07:32:00Z\nx = inf\ny = [1, "a", {}]\nx = 1\n')
    seed("config_toml", "deep", "a = " + "[" * 400)


def kernels():
    def elf(*segments, parts=b""):
        head = b"\x7fELF\2\1\1" + bytes(9) + struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, 0x1000000, 64, 0, 0, 64, 56, len(segments), 0, 0, 0)
        return head + b"".join(struct.pack("<IIQQQQQQ", *segment) for segment in segments) + parts

    code = b"\xf4\xeb\xfd"
    note = struct.pack("<III", 4, 4, 18) + b"Xen\0" + struct.pack("<I", 0x1000000)
    seed("kernel_image", "elf", elf((1, 5, 0, 0x1000000, 0x1000000, 300, 0x2000, 4096), parts=code.ljust(300, b"\x90")))
    seed("kernel_image", "pvh", elf((1, 5, 0, 0x1000000, 0x1000000, 300, 300, 4096), (4, 4, 176, 0, 0, len(note), len(note), 4),
                                    parts=note.ljust(200, b"\x90")))
    seed("kernel_image", "two_pages", elf((1, 5, 4096, 0x1000000, 0x1000000, 8192, 8192, 4096)).ljust(4096, b"\0") + code.ljust(8192, b"\0"))
    seed("kernel_image", "bzimage", at(
        0x800, _497=b"\1", _510=b"\x55\xaa\xeb\x66HdrS\x0f\2", _529=b"\1", _532=struct.pack("<I", 0x100000), _560=struct.pack("<I", 0x200000),
        _564=b"\1\x15\1\0", _568=struct.pack("<I", 2047), _600=struct.pack("<Q", 0x1000000), _608=struct.pack("<I", 0x100000), _1024=code))


def filters():
    def program(name, *steps):
        return struct.pack("<Q", len(name)) + name + struct.pack("<Q", len(steps)) + b"".join(struct.pack("<HBBI", *step) for step in steps)

    allow = (6, 0, 0, 0x7fff0000)
    seed("seccomp_file", "three", struct.pack("<Q", 3) + program(b"vmm", allow) + program(b"Api") + program(b"vcpu", (0x20, 0, 0, 0), allow))
    seed("seccomp_file", "json", '{"vmm": {"default_action": "trap"}}')


def records():
    def record(code, content, *, version=1, flags=1, index=0):
        return code + struct.pack("<HHIIQ", version, flags, index, len(content), 0) + content

    note = record(b"note", struct.pack("<I", 4) + b"text", flags=0)
    names = record(b"name", struct.pack("<BHIQB", 5, 2, 3, 4, 1) + struct.pack("<I", 3) + b"abc")
    vcpus = record(b"vcpu", names + note, flags=3) + record(b"vcpu", names, flags=3, index=1, version=2)
    seed("record", "machine", b"\1" + record(b"mach", vcpus + names + note, flags=3, version=2))
    seed("record", "damaged", b"\0" + record(b"mach", names, flags=3))
    seed("record", "unknown", b"\1" + record(b"mach", record(b"new ", b"", flags=1) + record(b"xtra", b"", flags=2), flags=3))
    seed("record", "leaf", b"\1" + record(b"mach", bytes(40)))
    seed("record", "too_new", b"\1" + record(b"mach", record(b"name", b"", version=9) + record(b"note", b"", version=9, flags=0), flags=3))


if __name__ == "__main__":
    for make in (queues, block_requests, drives, requests, frames, net_scripts, vsock_scripts, configurations, kernels, filters, records):
        make()
