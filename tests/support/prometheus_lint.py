# SPDX-License-Identifier: Apache-2.0
"""Holds a page of metrics to Prometheus' text format and conventions: what `promtool check metrics` looks for.

promtool itself comes with Debian's prometheus package only, which is 19 MB to fetch and 96 MB installed: too much for one
check. Where it is on the PATH it is asked too.

https://prometheus.io/docs/instrumenting/exposition_formats/ and https://prometheus.io/docs/practices/naming/
"""

import re
import shutil
import subprocess

NOT_BASE_UNITS = ("milliseconds", "microseconds", "nanoseconds", "minutes", "hours", "days", "kilobytes", "megabytes", "gigabytes",
                  "kibibytes", "mebibytes", "gibibytes", "bits", "percent")
ABBREVIATIONS = ("s", "ms", "us", "ns", "sec", "b", "kb", "mb", "gb", "tb", "pb", "m", "h", "d")
SUFFIXES = {"counter": ("",), "gauge": ("",), "summary": ("_sum", "_count"), "histogram": ("_bucket", "_sum", "_count")}
SAMPLE = re.compile(r'([a-z][a-z0-9_]*)(?:\{([a-z_]+="[^"\\\n]*"(?:,[a-z_]+="[^"\\\n]*")*)\})? ([0-9]+(?:\.[0-9]+)?)')


def faults(text):
    """What is wrong with a page, one line for each fault."""
    found, helps, types, family = [], {}, {}, None
    if not text.endswith("\n"):
        found.append("the last line has no end")
    for line in text.splitlines():
        if line.startswith("# HELP "):
            name, _, words = line.removeprefix("# HELP ").partition(" ")
            helps[name] = words
            continue
        if line.startswith("# TYPE "):
            family, _, kind = line.removeprefix("# TYPE ").partition(" ")
            if family in types:
                found.append(f"{family}: stands in two places")
            types[family] = kind
            found += [f"{family}: {fault}" for fault in name_faults(family, kind)]
            if not helps.get(family):
                found.append(f"{family}: no help text")
            continue
        sample = SAMPLE.fullmatch(line)
        if not sample:
            found.append(f"not a sample: {line}")
        elif family is None or sample[1] not in [family + suffix for suffix in SUFFIXES[types[family]]]:
            found.append(f"{sample[1]}: belongs to no family")
    return found


def name_faults(name, kind):
    parts = name.split("_")
    if kind not in SUFFIXES:
        yield f"type {kind} does not exist"
    if (kind == "counter") != name.endswith("_total"):
        yield "counters, and nothing else, end in _total"
    for suffix in ("_count", "_sum", "_bucket", "_info"):
        if name.endswith(suffix):
            yield f"{suffix} is reserved"
    for part in parts:
        if part in NOT_BASE_UNITS:
            yield f"{part} is not a base unit"
        if part in ABBREVIATIONS:
            yield f"{part} abbreviates a unit"
        if part in SUFFIXES:
            yield f"the name has its type {part} in it"
    if kind in ("summary", "histogram") and "seconds" not in parts and "bytes" not in parts:
        yield "has no unit"


def check(text):
    assert not faults(text), "\n".join(faults(text))
    promtool = shutil.which("promtool")
    if promtool:
        ran = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True, timeout=120)
        assert ran.returncode == 0, ran.stdout + ran.stderr
