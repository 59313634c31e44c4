# SPDX-License-Identifier: Apache-2.0
"""The API over a real socket: what it answers, and what it takes from clients that are slow, wrong or hostile.

Runs against build/api-server (the API with a machine that only takes notes), or the program that API_SERVER names.
"""

import contextlib
import os
import re
import resource
import socket
import time
from pathlib import Path

import pytest

import contract

ROOT = Path(__file__).resolve().parents[2]
SERVER = os.environ.get("API_SERVER", str(ROOT / "build/api-server"))
GET = b"GET /version HTTP/1.1\r\n\r\n"


def monitor(*arguments):
    return contract.Monitor(SERVER, *arguments)


def has_taps():
    return os.access("/dev/net/tun", os.R_OK | os.W_OK) and os.geteuid() == 0


@pytest.mark.parametrize("session", contract.load(), ids=lambda session: session[0])
def test_contract(session):
    name, arguments, exchanges = session
    if "[needs a tap]" in name and not has_taps():
        pytest.skip("taps need /dev/net/tun and root")
    with monitor(*arguments) as server:
        for exchange in exchanges:
            assert contract.perform(server, exchange.request) == exchange.expected("wisp"), exchange.request


def test_heads_are_firecrackers():
    with monitor() as server:
        _, lines, _ = server.client.request("GET", "/")
        assert lines[0] == "HTTP/1.1 200 "
        assert lines[1:3] == ["Server: Firecracker API", "Connection: keep-alive"]
        assert lines[3] == "Content-Type: application/json" and lines[4].startswith("Content-Length: ")
        _, lines, body = server.client.request("PUT", "/logger", "{}")
        assert lines == ["HTTP/1.1 204 ", "Server: Firecracker API", "Connection: keep-alive"] and body == ""


def test_version_is_one_that_clients_can_parse():
    with monitor() as server:
        _, _, body = server.client.request("GET", "/version")
        assert re.search(r'"firecracker_version":"1\.\d+\.\d+"', body) and re.search(r'"wisp_version":"\d+\.\d+\.\d+"', body)


def test_log_lines_are_firecrackers():
    with monitor("--id", "vm-1") as server:
        server.client.request("PUT", "/actions", '{"action_type":"FlushMetrics"}')
        server.client.request("PUT", "/mmds", '{"secret":1}')
        server.client.request("GET", "/version")
        log = server.log_text()
    assert "API server started." in log
    assert r'The API server received a Put request on "/actions" with body "{\"action_type\":\"FlushMetrics\"}".' in log
    assert "Received Error. Status code: 400 Bad Request. Message: The requested operation is not supported before" in log
    assert 'The API server received a Put request on "/mmds".' in log and "secret" not in log
    assert "The request was executed successfully. Status code: 200 OK." in log
    assert re.search(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9} \[vm-1:", log, re.M)


@pytest.mark.parametrize("path", ["/mmds", "//mmds", "/mmds/", "///mmds//", "http://host/mmds", "/nmds"])
@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_metadata_is_not_logged_however_its_path_is_written(path, method):
    with monitor("--level", "Debug") as server:
        server.client.request("PUT", "/mmds", "{}")
        server.client.request(method, path, '{"password":"hunter2"}')
        server.client.request("GET", "/mmds")
        assert "API server received" in server.log_text() and "hunter2" not in server.log_text()


def test_a_cpu_template_is_logged_at_debug_only():
    for level, shown in (("Info", False), ("Debug", True)):
        with monitor("--level", level) as server:
            server.client.request("PUT", "/cpu-config", '{"msr_modifiers":[]}')
            assert ("msr_modifiers" in server.log_text()) == shown


def test_requests_sent_ahead_are_answered_in_order():
    with monitor() as server:
        server.client.send(GET + b"GET / HTTP/1.1\r\n\r\nGET /nothing HTTP/1.1\r\n\r\n" + GET)
        answers = [server.client.read() for _ in range(4)]
        assert [status for status, _, _ in answers] == [200, 200, 400, 200]
        assert "state" in answers[1][2]


def test_answers_that_take_time_come_in_order_too():
    with monitor() as server:
        body = b'{"kernel_image_path":"/dev/null"}'
        start = b'{"action_type":"InstanceStart"}'
        state = b'{"state":"Paused"}'
        head = "%s %s HTTP/1.1\r\nContent-Length: %d\r\n\r\n"
        server.client.send((head % ("PUT", "/boot-source", len(body))).encode() + body
                           + (head % ("PUT", "/actions", len(start))).encode() + start
                           + (head % ("PATCH", "/vm", len(state))).encode() + state + b"GET / HTTP/1.1\r\n\r\n")
        assert [server.client.read()[0] for _ in range(3)] == [204, 204, 204]
        assert '"state":"Paused"' in server.client.read()[2]


def test_a_request_may_come_byte_by_byte():
    with monitor() as server:
        for byte in b"PUT /machine-config HTTP/1.1\r\ncontent-length: 2\r\n\r\n{}":
            server.client.send(bytes([byte]))
        assert server.client.read()[0] == 400


def test_chunked_bodies():
    with monitor() as server:
        body = b"23\r\n" + b'{"vcpu_count":1,"mem_size_mib":128}' + b"\r\n0\r\n\r\n"
        server.client.send(b"PUT /machine-config HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + body)
        assert server.client.read()[0] == 204


def test_a_client_may_ask_before_it_sends_its_body():
    with monitor() as server:
        server.client.send(b"PUT /machine-config HTTP/1.1\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        assert server.client.read()[0] == 100
        server.client.send(b"{}")
        assert server.client.read()[0] == 400


def test_bodies_up_to_the_limit():
    with monitor("--http-api-max-payload-size", "100") as server:
        status, _, _ = server.client.request("PUT", "/mmds", '"' + "x" * 98 + '"')
        assert status == 204
        server.client.send(b"PUT /mmds HTTP/1.1\r\nContent-Length: 101\r\n\r\n")
        status, lines, body = server.client.read()
        assert status == 400 and "Connection: close" in lines
        assert "Request payload with size 101 is larger than the limit of 100 allowed by server." in body


def test_a_chunked_body_is_held_to_the_limit_too():
    with monitor("--http-api-max-payload-size", "100") as server:
        server.client.send(b"PUT /mmds HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n" + b"x" * 255)
        assert server.client.read()[0] == 400


def test_a_body_over_the_limit_is_answered_however_much_of_it_comes():
    """The client sends all of its body before it reads: it must find the answer, not a broken pipe."""
    with monitor() as server:
        body = b"x" * (4 << 20)
        server.client.send(b"PUT /mmds HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        status, _, text = server.client.read()
        assert status == 400 and f"Request payload with size {len(body)} is larger than the limit of 51200" in text


def test_a_path_without_a_slash_is_an_empty_one():
    with monitor() as server:
        for target in ("version", "*", "http://localhost", "http:"):
            status, _, body = server.client.request("GET", target)
            assert status == 200 and '"app_name":"Firecracker"' in body, target
        status, _, body = server.client.request("PUT", "machine-config", "{}")
        assert status == 400 and "Invalid request method and/or path: PUT ." in body


def test_a_method_that_nothing_answers_leaves_the_connection_usable():
    with monitor() as server:
        for method in ("POST", "HEAD", "OPTIONS"):
            status, lines, body = server.client.request(method, "/version", "{}")
            assert status == 400 and "Invalid HTTP Method: Unsupported HTTP method." in body
            assert "Connection: keep-alive" in lines
        assert server.client.request("GET", "/version")[0] == 200


@pytest.mark.parametrize("header, text", [
    ("Accept-Encoding: identity;q=0", "Invalid header. Reason: Invalid value. Key:Accept-Encoding; Value:identity;q=0"),
    ("Accept-Encoding: *;q=0", "Invalid header. Reason: Invalid value. Key:Accept-Encoding; Value:*;q=0"),
    ("Content-Length: x", "Invalid header. Reason: Invalid value. Key:Content-Length; Value: x"),
    ("Foo", "Invalid header. Reason: Header is incorrectly formatted. Key: Foo"),
])
def test_headers_are_refused_in_firecrackers_words(header, text):
    with monitor() as server:
        server.client.send(f"GET / HTTP/1.1\r\n{header}\r\n\r\n".encode())
        status, lines, body = server.client.read()
        assert status == 400 and "Connection: close" in lines
        assert body == '{ "error": "' + text + '\nAll previous unanswered requests will be dropped." }'


@pytest.mark.parametrize("garbage", [
    b"hello\r\n\r\n", b"\0\1\2\3", b"GET / HTTP/2\r\n\r\n", b"GET / HTTP/1.1\r\nFoo\r\n\r\n",
    b"PUT / HTTP/1.1\r\nContent-Length: abc\r\n\r\n", b"PUT / HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
    b"PUT / HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n",
    b"PUT / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
    b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nFoo: " + b"a" * 100000 + b"\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + b"Foo: a\r\n" * 10000 + b"\r\n",
    b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", b"GET / HTTP/1.1\n\n", b"GET / HTTP/1.1\r\nA: b\nC: d\r\n\r\n",
    b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n{}",
], ids=lambda garbage: repr(garbage[:30]))
def test_what_is_not_http_gets_one_answer_and_the_end(garbage):
    with monitor() as server:
        try:
            server.client.send(garbage)
        except BrokenPipeError:
            pass  # it has hung up before it was told everything
        try:
            status, _, body = server.client.read()
            assert status == 400 and body.startswith('{ "error": "')
            server.client.socket.shutdown(socket.SHUT_WR)
            with pytest.raises((EOFError, ConnectionResetError)):
                server.client.read()
        except ConnectionResetError:
            pass
        other = contract.Client(server.api_sock)
        assert other.request("GET", "/version")[0] == 200


def test_a_client_that_wants_the_connection_closed_gets_that():
    with monitor() as server:
        server.client.send(b"GET /version HTTP/1.1\r\nConnection: close\r\n\r\n")
        assert "Connection: close" in server.client.read()[1]
        with pytest.raises(EOFError):
            server.client.read()


def test_a_client_that_has_said_all_still_gets_its_answers():
    with monitor() as server:
        server.client.send(GET + GET)
        server.client.socket.shutdown(socket.SHUT_WR)
        assert server.client.read()[0] == 200 and server.client.read()[0] == 200
        with pytest.raises(EOFError):
            server.client.read()


def test_a_client_that_goes_away_harms_nobody():
    with monitor() as server:
        for message in (b"", b"GET / HT", GET, GET * 50, b"PUT /mmds HTTP/1.1\r\nContent-Length: 50000\r\n\r\nxxx"):
            client = contract.Client(server.api_sock)
            client.send(message)
            client.close()
        assert server.client.request("GET", "/version")[0] == 200


def test_sixty_four_clients_at_a_time_and_more_in_turn():
    with monitor() as server:
        clients = [contract.Client(server.api_sock) for _ in range(64)]
        for _ in range(2):
            for client in clients:
                assert client.request("GET", "/version")[0] == 200
        # Whoever is silent longest makes room, so nobody is kept out by those who only sit there.
        more = [contract.Client(server.api_sock) for _ in range(200)]
        assert more[-1].request("GET", "/version")[0] == 200
        for client in clients + more:
            client.close()


def half_sent_requests(server, count):
    """Clients that have each sent half a request. A server that is short of something may have closed some already."""
    clients = [contract.Client(server.api_sock) for _ in range(count)]
    for client in clients:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            client.send(b"GET /version HT")
    return clients


def test_half_sent_requests_shut_nobody_out():
    with monitor() as server:
        hostile = half_sent_requests(server, 128)
        start = time.monotonic()
        for _ in range(5):
            client = contract.Client(server.api_sock)
            assert client.request("GET", "/version")[0] == 200
            client.close()
        assert time.monotonic() - start < 8  # well before the time after which a stalled client is closed anyway
        # The oldest made room, the youngest is still served.
        hostile[-1].send(b"TP/1.1\r\n\r\n")
        assert hostile[-1].read()[0] == 200
        with pytest.raises((EOFError, ConnectionResetError)):
            hostile[0].read()


def test_half_sent_requests_that_are_overdue_go_before_idle_clients():
    with monitor() as server:
        assert server.client.request("GET", "/version")[0] == 200  # the oldest of all, and idle from now on
        hostile = half_sent_requests(server, 127)
        wait_until_stalled_s = 1.2  # longer than the grace
        deadline = time.monotonic() + wait_until_stalled_s
        while time.monotonic() < deadline:
            time.sleep(0.05)
        for _ in range(3):
            assert contract.Client(server.api_sock).request("GET", "/version")[0] == 200
        assert server.client.request("GET", "/version")[0] == 200
        del hostile


def test_clients_are_served_when_descriptors_run_out():
    with monitor() as server:
        pid = server.process.pid
        used = len(os.listdir(f"/proc/{pid}/fd"))
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (used, used))
        for _ in range(2):
            clients = half_sent_requests(server, 40)
            for _ in range(3):
                client = contract.Client(server.api_sock)
                assert client.request("GET", "/version")[0] == 200
                client.close()
            for client in clients:
                client.close()
        log = server.log_text()
        assert log.count("no descriptors are left") >= 1
        assert log.count("no descriptors are left") <= 3  # said once for each shortage


def test_a_slow_client_is_cut_off_and_a_silent_one_is_not():
    with monitor() as server:
        slow = contract.Client(server.api_sock, timeout_s=20)
        slow.send(b"GET /version HT")
        start = time.monotonic()
        with pytest.raises(EOFError):
            slow.read()
        assert 8 < time.monotonic() - start < 15
        assert server.client.request("GET", "/version")[0] == 200  # has been silent all the time


def test_a_client_that_does_not_read_is_not_read_from():
    with monitor() as server:
        greedy = contract.Client(server.api_sock)
        greedy.socket.setblocking(False)
        sent = 0
        try:
            for _ in range(20000):
                sent += greedy.socket.send(GET * 100)
        except BlockingIOError:
            pass
        assert sent < 4 << 20
        assert server.client.request("GET", "/version")[0] == 200
        rss = int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{server.process.pid}/status").read_text())[1])
        assert rss < 16 << 10


def test_descriptors_and_memory_come_back():
    with monitor("--level", "Off") as server:
        def used():
            status = Path(f"/proc/{server.process.pid}/status").read_text()
            return len(os.listdir(f"/proc/{server.process.pid}/fd")), int(re.search(r"VmRSS:\s+(\d+)", status)[1])

        def come_and_go(times):
            for _ in range(times):
                client = contract.Client(server.api_sock)
                client.request("PUT", "/mmds", '{"a":"' + "x" * 5000 + '"}')
                client.close()
            return used()
        before = come_and_go(2000)  # the heap has found its size by then
        after = come_and_go(4000)
        assert after[0] <= before[0] + 1 and after[1] < before[1] + 512


def test_a_failed_load_ends_the_process_after_its_answer():
    with monitor() as server:
        body = '{"snapshot_path":"/nonexistent","mem_backend":{"backend_type":"File","backend_path":"/nonexistent"}}'
        status, _, answer = server.client.request("PUT", "/snapshot/load", body)
        assert status == 400 and "Load snapshot error: " in answer
        assert server.process.wait(10) == 1
