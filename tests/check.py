#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What `make check` holds the sources to. Without arguments all of it; `check.py PART...` runs some parts:

    text      licence headers, no empty files          format    clang-format
    includes  the direction of includes                tidy      clang-tidy, with the checks of .clang-tidy
    headers   every header compiles by itself          shell     shellcheck
    openapi   the OpenAPI document                         python    pyflakes
"""
import concurrent.futures
import os
import re
import shutil
import subprocess
import sys
import time

# A layer may include itself and these. Only a main.cc may include anything.
MAY_INCLUDE = {
    "base": set(),
    "http": {"base"},
    "virtio": {"base"},
    "vmm": {"base", "http", "virtio", "policy_filters"},  # the last is generated
    "api": {"base", "http", "vmm/controller", "vmm/config", "vmm/mmds"},
    "jailer": {"base"},
    "cli": {"base", "http"},
    "wisp": {"base", "http", "virtio", "vmm", "api", "jailer"},
}
CXX_FLAGS = ["-std=c++23", "-fno-exceptions", "-fno-rtti", "-I.", "-Ibuild/generated"]
GUEST_FLAGS = ["-std=c++23", "-fno-exceptions", "-fno-rtti", "-Ikernel-config/guest-programs/init"]
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


def tool(name):
    return shutil.which(name) or sys.exit(f"check: {name} is missing: setup/install-packages check")


def run(*command):
    return subprocess.run(command, capture_output=True, text=True)


def in_parallel(check, paths):
    """One process for each path, as many at once as there are CPUs. The longest files first, so that none is left over at the end."""
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(check, sorted(paths, key=os.path.getsize, reverse=True)))


def check_header_stands_alone(path):
    """It compiles as the only thing included."""
    ran = run("g++", *CXX_FLAGS, "-fsyntax-only", "-x", "c++", path)
    if ran.returncode != 0:
        errors = [line for line in ran.stderr.splitlines() if "error" in line]
        fault(path, 1, f"does not compile by itself: {errors[0] if errors else ran.stderr[:200]}")


def tidy(path):
    flags = GUEST_FLAGS if path.startswith("kernel-config/") else CXX_FLAGS
    ran = run(tool("clang-tidy-19"), "--quiet", path, "--", *flags, "-Wall", "-Wextra", "-Wno-deprecated-declarations")  # libstdc++ has some
    faults.extend(line for line in ran.stdout.splitlines() if re.search(r": (error|warning): ", line))


def check_tidy(paths):
    # vmm/policy/filter.cc includes what the policy compiler writes.
    run("make", "--no-print-directory", "build/generated/policy_filters.inc")
    in_parallel(tidy, paths)


def check_format(paths):
    ran = run(tool("clang-format-19"), "--dry-run", "--Werror", *paths)
    faults.extend(line for line in ran.stderr.splitlines() if "error:" in line)


def check_shell(paths):
    ran = run(tool("shellcheck"), "-x", *paths)
    if ran.returncode != 0:
        faults.append(ran.stdout)


def check_python(paths):
    ran = run(tool("pyflakes3"), *paths)
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


def read_sources():
    files = {}
    for path in tracked():
        try:
            with open(path, encoding="utf-8") as file:
                files[path] = file.read()
        except UnicodeDecodeError:
            continue
    return files


def parts(files):
    """What each part of the check does, in the order in which faults are reported: the quick ones first."""
    def named(*endings):
        return [path for path in files if path.endswith(endings)]

    def of_layer(path):
        return path.split("/")[0] in MAY_INCLUDE

    shell = [path for path, text in files.items() if re.match(r"#!.*\b(bash|sh)\b", text) and "busybox" not in text[:30]]
    python = [path for path, text in files.items() if path.endswith(".py") or re.match(r"#!.*\bpython", text)]
    compiled = [path for path in named(".cc") if of_layer(path) or path.startswith("kernel-config/")]

    def check_text():
        for path, text in files.items():
            check_empty(path, text)
            check_licence(path, text)

    def check_all_includes():
        for path in named(".h", ".cc"):
            check_includes(path, files[path])

    return {
        "text": check_text,
        "includes": check_all_includes,
        "format": lambda: check_format(named(".h", ".cc", ".c")),
        "shell": lambda: check_shell(shell),
        "python": lambda: check_python(python),
        "openapi": lambda: check_openapi("api/openapi.yaml"),
        "headers": lambda: in_parallel(check_header_stands_alone, filter(of_layer, named(".h"))),
        "tidy": lambda: check_tidy(compiled),
    }


def main():
    files = read_sources()
    known = parts(files)
    for name in sys.argv[1:]:
        if name not in known:
            sys.exit(f"check: no such part: {name} (one of: {' '.join(known)})")
    for name in sys.argv[1:] or known:
        began = time.monotonic()
        before = len(faults)
        known[name]()
        for line in dict.fromkeys(faults[before:]):  # a header's fault is found once for each file that includes it
            print(line)
        print(f"check: {name}: {len(set(faults[before:]))} faults, {time.monotonic() - began:.0f} s", flush=True)
    print(f"check: {len(files)} files, {len(set(faults))} faults")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
