#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Sends many requests to the API: some from one who knows it, some from one who only knows HTTP, some from neither.

    tests/api/fuzz_api.py [REQUESTS [SEED]]        API_SERVER=program, build/api-server by default

Half of them before the machine is started, half after. `make test` sends FUZZ_REQUESTS (20,000) to it, with a seed of chance that
it prints. The process must stay up, and answer a plain GET at the end with the memory and descriptors it had at the start.
"""

import json
import os
import random
import re
import sys
from pathlib import Path

import contract
from test_api import SERVER

TOKENS = ["{", "}", "[", "]", ":", ",", '"', "1", "-1", "1e999", "null", "true", "\\u", "\\ud800", "\n", "\0", "é", "{}",
          "999999999999999999999", "a" * 300, "[" * 200]
PIECES = [b"GET ", b"PUT ", b"PATCH ", b"POST ", b"/", b"/mmds", b"/drives/a", b" HTTP/1.1\r\n", b" HTTP/1.0\r\n", b"\r\n",
          b"\r\n\r\n", b"\n", b"Content-Length: 5\r\n", b"Content-Length: -1\r\n", b"Transfer-Encoding: chunked\r\n",
          b"Expect: 100-continue\r\n", b"Connection: close\r\n", b"Upgrade: x\r\nConnection: upgrade\r\n", b"5\r\nhello\r\n",
          b"0\r\n\r\n", b"ffffffffffffffff\r\n", b"\0", b"\xff", b"a" * 2000, b"{}"]


def mutate(text, rng):
    for _ in range(rng.randrange(4)):
        place = rng.randrange(len(text) + 1)
        text = text[:place] + rng.choice(TOKENS + [""]) + text[place + rng.randrange(6):]
    return text


def known_request(requests, rng):
    method, path, *body = rng.choice(requests).split(" ", 2)
    data = mutate(body[0], rng).encode() if body else b""
    if rng.randrange(8) == 0:
        path = mutate(path, rng).replace(" ", "").replace("\n", "").replace("\0", "")
    return (f"{method} {path} HTTP/1.1\r\nContent-Length: {len(data)}\r\n\r\n").encode() + data


def http_noise(rng):
    return b"".join(rng.choice(PIECES) for _ in range(rng.randrange(1, 12)))


def drain(client):
    """Reads what is there."""
    client.socket.settimeout(0.2)
    try:
        while client.socket.recv(65536):
            pass
    except (TimeoutError, OSError):
        pass


def used(process):
    status = Path(f"/proc/{process.pid}/status").read_text()
    return len(os.listdir(f"/proc/{process.pid}/fd")), int(re.search(r"VmRSS:\s+(\d+)", status)[1])


def fuzz(count, rng, requests, started):
    """Sends them to a server of its own whose machine is, or is not, started; returns what it held after a quarter, and at the end."""
    with contract.Monitor(SERVER, "--level", "Off") as monitor:
        requests = [request.replace("{tmp}", monitor.tmp) for request in requests if started or "InstanceStart" not in request]
        if started:
            for request in (f'PUT /boot-source {{"kernel_image_path":"{monitor.tmp}/guest"}}', 'PUT /actions {"action_type":"InstanceStart"}'):
                answer = contract.perform(monitor, request)
                assert answer.startswith("204"), (request, answer)
        before = None
        sent = 0
        while sent < count:
            client = contract.Client(monitor.api_sock)
            try:
                if rng.randrange(4) == 0:
                    client.send(http_noise(rng))
                    if rng.randrange(20) == 0:
                        drain(client)
                    sent += 1
                else:
                    batch = rng.randrange(1, 20)
                    for _ in range(batch):
                        client.send(known_request(requests, rng))
                    for _ in range(batch):
                        client.read()
                    sent += batch
            except (EOFError, OSError):
                pass
            client.close()
            if monitor.process.poll() is not None:
                sys.exit(f"the server ended with {monitor.process.returncode} after {sent} requests:\n{monitor.log_text()[-4000:]}")
            if before is None and sent > count // 4:
                contract.Client(monitor.api_sock).request("GET", "/version")
                before = used(monitor.process)
        assert contract.Client(monitor.api_sock).request("GET", "/version")[0] == 200
        after = used(monitor.process)
        print(json.dumps({"started": started, "requests": sent, "descriptors": [before[0], after[0]], "rss_kib": [before[1], after[1]]}))
        if after[0] > before[0] + 4 or after[1] > before[1] * 1.2 + 1024:
            sys.exit("it holds more than it did")


def main():
    count = int(sys.argv[1]) if len(sys.argv) > 1 else int(os.environ.get("FUZZ_REQUESTS", "20000"))
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(1 << 32)
    print(f"seed {seed}", flush=True)
    rng = random.Random(seed)
    # A failed load ends the process, as it must.
    requests = [exchange.request for _, _, exchanges in contract.load() for exchange in exchanges
                if "/snapshot/load" not in exchange.request and "/logger" not in exchange.request]
    for started in (False, True):
        fuzz(count // 2, rng, requests, started)


if __name__ == "__main__":
    main()
