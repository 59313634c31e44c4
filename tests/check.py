#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What `make check` holds the sources to: licence headers, the direction of includes, headers that stand alone, format, shell, Python,
and OpenAPI."""
import os
import re
import shutil
import subprocess
import sys

# A room may include itself and these. Only a main.cc crosses.
MAY_INCLUDE = {
    "base": set(),
    "virtio": {"base"},
    "http": {"base"},
    "vmm": {"base", "virtio", "http", "policy_filters"},  # the last is generated
    "api": {"base", "http", "vmm/controller", "vmm/config", "vmm/mmds"},
    "jailer": {"base"},
    "wisp": {"base", "virtio", "vmm", "http", "api"},
}
faults = []


def fault(path, line, what):
    faults.append(f"{path}:{line}: {what}")


def tracked():
    listed = subprocess.run(["git", "ls-files"], capture_output=True, text=True, check=True)
    return [path for path in listed.stdout.splitlines() if os.path.isfile(path)]


def check_licence(path, text):
    name = os.path.basename(path)
    if name in ("LICENSE", ".gitignore") or path.endswith((".md", ".json", ".jsonl", ".clang-format", ".clang-tidy")):
        return
    if path.startswith(("kernel-config/rootfs/", "tests/fuzz/corpus/")):
        return
    if "SPDX-License-Identifier:" not in text[:600]:
        fault(path, 1, "has no SPDX-License-Identifier")


def check_includes(path, text):
    room = path.split("/")[0]
    if room not in MAY_INCLUDE or os.path.basename(path) == "main.cc":
        return
    for number, line in enumerate(text.splitlines(), 1):
        found = re.match(r'#include "([^"]+)"', line)
        if not found or found[1].startswith(room + "/"):
            continue
        if not any(found[1].startswith(allowed + "/") or found[1].startswith(allowed + ".") for allowed in MAY_INCLUDE[room]):
            fault(path, number, f"{room} may not include {found[1]}")


def check_headers_stand_alone(headers):
    """One compiler run for each header, as the only thing included."""
    flags = ["-std=c++23", "-fno-exceptions", "-fno-rtti", "-I.", "-fsyntax-only", "-x", "c++"]
    for path in headers:
        ran = subprocess.run(["g++", *flags, path], capture_output=True, text=True)
        errors = [line for line in ran.stderr.splitlines() if "error" in line]
        if ran.returncode != 0:
            fault(path, 1, f"does not compile by itself: {errors[0] if errors else ran.stderr[:200]}")


def check_format(paths):
    tool = shutil.which("clang-format-19") or sys.exit("check: clang-format-19 is missing: setup/install-packages check")
    ran = subprocess.run([tool, "--dry-run", "--Werror", *paths], capture_output=True, text=True)
    for line in ran.stderr.splitlines():
        if "error:" in line:
            faults.append(line)


def check_shell(paths):
    tool = shutil.which("shellcheck") or sys.exit("check: shellcheck is missing: setup/install-packages check")
    ran = subprocess.run([tool, "-x", *paths], capture_output=True, text=True)
    if ran.returncode != 0:
        faults.append(ran.stdout)


def check_python(paths):
    tool = shutil.which("pyflakes3") or sys.exit("check: pyflakes3 is missing: setup/install-packages check")
    ran = subprocess.run([tool, *paths], capture_output=True, text=True)
    faults.extend((ran.stdout + ran.stderr).splitlines())


def check_openapi(path):
    try:
        import yaml
    except ImportError:
        sys.exit("check: python3-yaml is missing: setup/install-packages check")
    sys.path.insert(0, "tests/support")
    import openapi
    for line in openapi.faults(yaml.safe_load(open(path, encoding="utf-8"))):
        fault(path, 1, line)


def check_empty(path, text):
    if not text:
        fault(path, 1, "is empty")


def main():
    files = {}
    for path in tracked():
        try:
            files[path] = open(path, encoding="utf-8").read()
        except UnicodeDecodeError:
            continue
    for path, text in files.items():
        check_empty(path, text)
        check_licence(path, text)
        if path.endswith((".h", ".cc")):
            check_includes(path, text)
    sources = [path for path in files if path.split("/")[0] in MAY_INCLUDE or path.startswith("tests/")]
    check_format([path for path in sources if path.endswith((".h", ".cc"))])
    check_headers_stand_alone([path for path in files if path.split("/")[0] in MAY_INCLUDE and path.endswith(".h")])
    check_shell([path for path, text in files.items() if re.match(r"#!.*\b(bash|sh)\b", text) and "busybox" not in text[:30]])
    check_python([path for path, text in files.items() if path.endswith(".py") or re.match(r"#!.*\bpython", text)])
    check_openapi("api/openapi.yaml")
    for line in faults:
        print(line)
    print(f"check: {len(files)} files, {len(faults)} faults")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
