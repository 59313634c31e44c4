# SPDX-License-Identifier: Apache-2.0
"""Compares api/openapi.yaml with what the server really answers: paths, methods, fields, when they may be used, examples."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from test_api import ROOT, has_taps, monitor

sys.path.insert(0, str(ROOT / "tests/support"))
import openapi

yaml = pytest.importorskip("yaml")
API = yaml.safe_load((ROOT / "api/openapi.yaml").read_text())
METHODS = ("get", "put", "patch", "delete")
OPERATIONS = [(path, method, operation) for path, methods in API["paths"].items()
              for method, operation in methods.items() if method in METHODS]
# Known to the server, and no part of Wisp: the answer says so.
LEFT_OUT = ["/balloon", "/balloon/statistics", "/entropy", "/pmem/a", "/hotplug/memory"]


def resolve(item):
    while "$ref" in item:
        target = API
        for name in item["$ref"].removeprefix("#/").split("/"):
            target = target[name]
        item = target
    return item


def body_schema(operation):
    if "requestBody" not in operation:
        return None
    return resolve(resolve(operation["requestBody"])["content"]["application/json"]["schema"])


def sample(schema):
    """A value that a schema allows, with what is required and no more."""
    schema = resolve(schema)
    if "enum" in schema:
        return schema["enum"][-1]
    if schema.get("type") == "object":
        chosen = schema.get("required") or list(schema["properties"])[:schema.get("minProperties", 0)]
        return {name: sample(schema["properties"][name]) for name in chosen}
    return {"string": "a", "integer": schema.get("minimum", 0), "boolean": False, "array": []}.get(schema.get("type"), {})


def send(client, path, method, body=None):
    text = None if body is None else json.dumps(body)
    status, _, answer = client.request(method.upper(), path.replace("{id}", "a"), text)
    return status, (json.loads(answer)["fault_message"] if status >= 400 else answer)


def name(operation):
    return f"{operation[1].upper()} {operation[0]}"


def body_of(path, method, operation):
    schema = body_schema(operation)
    body = None if schema is None else sample(schema)
    if path == "/snapshot/load":
        body["mem_file_path"] = "/nonexistent"
    return body


def test_the_document_is_openapi():
    assert openapi.faults(API) == []


@pytest.mark.parametrize("change, fault", [
    (lambda api: api["paths"]["/vm"]["patch"]["responses"].update({204: {"description": "x"}}), "it must be a string"),
    (lambda api: api["paths"]["/vm"]["patch"].pop("responses"), "lacks responses"),
    (lambda api: api["components"]["schemas"].pop("Vm"), "does not exist"),
    (lambda api: api["components"]["schemas"]["Vm"]["required"].append("foo"), "which is no property"),
    (lambda api: api["components"]["requestBodies"]["Vm"]["content"]["application/json"].update(example={"state": "x"}), "is none of"),
    (lambda api: api["components"]["schemas"]["Drive"].update(propertis={}), "may not have 'propertis'"),
], ids=str)
def test_the_check_of_the_document_finds_what_is_wrong(change, fault):
    api = yaml.safe_load((ROOT / "api/openapi.yaml").read_text())
    change(api)
    assert any(fault in line for line in openapi.faults(api))


@pytest.mark.parametrize("operation", OPERATIONS, ids=name)
def test_each_documented_operation_exists(operation):
    path, method, details = operation
    with monitor() as server:
        _, text = send(server.client, path, method, body_of(*operation))
        assert "Invalid request method" not in text


def test_each_other_operation_does_not():
    documented = {(path, method) for path, method, _ in OPERATIONS}
    with monitor() as server:
        for path in API["paths"]:
            for method in METHODS:
                if (path, method) in documented:
                    continue
                status, text = send(server.client, path, method, {} if method in ("put", "patch") else None)
                hot_unplug = method == "delete" and "{id}" in path
                same_place = ("/" + path.split("/")[1], method) in documented  # segments behind the first do not count there
                assert hot_unplug or same_place or (status == 400 and "Invalid request method" in text), (path, method)
        for path in LEFT_OUT:
            status, text = send(server.client, path, "put", {})
            if path != "/balloon/statistics":
                assert status == 400 and "Wisp leaves the" in text and "by design" in text, path


@pytest.mark.parametrize("operation", [one for one in OPERATIONS if body_schema(one[2])], ids=name)
def test_fields_are_those_of_the_schema(operation):
    path, method, details = operation
    schema = body_schema(details)
    with monitor() as server:
        status, text = send(server.client, path, method, {"no_such_field": 1})
        if schema.get("additionalProperties") is False:
            assert "unknown field `no_such_field`" in text
            assert set(re.findall(r"`(\w+)`", text)) - {"no_such_field"} == set(schema["properties"])
        if schema.get("required"):
            status, text = send(server.client, path, method, {})
            missing = re.search(r"missing field `(\w+)`", text)
            assert status == 400 and missing[1] in schema["required"]
        for field, kind in schema.get("properties", {}).items():
            if "enum" not in resolve(kind):
                continue
            _, text = send(server.client, path, method, {field: "no such value"})
            listed = re.findall(r"`(\w+)`", text.partition("expected")[2])
            assert "Invalid LevelFilter" in text or set(listed) == set(resolve(kind)["enum"]), field


def test_before_and_after_the_start():
    with monitor() as server:
        for path, method, details in OPERATIONS:
            _, text = send(server.client, path, method, body_of(path, method, details))
            refused = "not supported before starting" in text
            if path != "/actions":
                assert refused == ("x-before-start" not in details), (method, path)
            if path == "/snapshot/load":
                break
    with monitor() as server:
        send(server.client, "/boot-source", "put", {"kernel_image_path": "/dev/null"})
        assert send(server.client, "/actions", "put", {"action_type": "InstanceStart"})[0] == 204
        for path, method, details in OPERATIONS:
            _, text = send(server.client, path, method, body_of(path, method, details))
            refused = "not supported after starting" in text or "PCI is not enabled" in text
            assert refused == ("x-after-start" not in details), (method, path, text)


# ---- examples ----

# In an order in which a client could send them: what comes later needs what came before.
ORDER = ["put /logger", "put /metrics", "put /machine-config", "patch /machine-config", "put /cpu-config", "put /boot-source", "put /drives/{id}",
         "put /network-interfaces/{id}", "put /vsock", "put /serial", "put /mmds/config", "put /mmds", "patch /mmds", "put /actions",
         "patch /drives/{id}", "patch /network-interfaces/{id}", "patch /vm", "put /snapshot/create"]
FILES = ("vmlinux", "rootfs.ext4", "other.ext4", "log", "metrics", "console", "state", "memory")


def media_of(operation):
    return resolve(operation["requestBody"])["content"]["application/json"] if "requestBody" in operation else None


def run_example(server, path, method, body):
    """Sends an example to a server in whose folder its files are."""
    path = path.replace("{id}", body.get("drive_id") or body.get("iface_id") or "")
    text = json.dumps(body).replace("/srv/vm/", server.tmp + "/")
    return server.client.request(method.upper(), path, text)


def prepare(server):
    for name in FILES:
        (Path(server.tmp) / name).write_bytes(bytes(4096))


def test_each_example_of_a_request_is_accepted():
    bodies = {f"{method} {path}": (path, method, details) for path, method, details in OPERATIONS if "requestBody" in details}
    assert set(ORDER) == set(bodies) - {"put /snapshot/load"}  # which has a test of its own
    taps = has_taps()
    with monitor() as server:
        prepare(server)
        if taps:
            subprocess.run(["ip", "tuntap", "add", "tap0", "mode", "tap"], check=False)
        for one in ORDER:
            path, method, details = bodies[one]
            if not taps and ("network-interfaces" in path or path == "/mmds/config"):
                continue
            if not taps and path == "/mmds" and method == "patch":
                continue
            found = openapi.examples(media_of(details))
            assert found, f"{one} has no example"
            for body in found:
                status, _, answer = run_example(server, path, method, body)
                assert str(status) in details["responses"] and status < 300, (one, body, answer)


def test_the_example_of_a_load_reaches_the_machine():
    with monitor() as server:
        prepare(server)
        details = API["paths"]["/snapshot/load"]["put"]
        for body in openapi.examples(media_of(details)):
            status, _, answer = run_example(server, "/snapshot/load", "put", body)
            assert status == 400 and "this machine cannot be restored" in answer  # it is one that only takes notes


@pytest.mark.parametrize("operation", [one for one in OPERATIONS if one[1] == "get"], ids=name)
def test_answers_are_what_the_document_says(operation):
    path, method, details = operation
    with monitor() as server:
        status, lines, body = server.client.request("GET", path)
        response = resolve(details["responses"][str(status)])
        (media_type, media), = response["content"].items()
        assert any(line.startswith(f"Content-Type: {media_type}") for line in lines)
        if media_type == "application/json":
            checker = openapi.Checker(API)
            checker.value(json.loads(body), media["schema"], path)
            for example in openapi.examples(media):
                assert set(example) == set(json.loads(body)), path
            assert checker.faults == []
