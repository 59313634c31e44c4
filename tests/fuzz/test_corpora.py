# SPDX-License-Identifier: Apache-2.0
"""Each fuzz target over its corpus: what was once found stays found, and no target rots."""
import os
import subprocess

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
BUILD = os.environ.get("WISP_BUILD") or f"{os.path.dirname(os.path.dirname(HERE))}/build"
TARGETS = sorted(name.removesuffix(".cc") for name in os.listdir(HERE) if name.endswith(".cc") and name != "replay.cc")


@pytest.mark.parametrize("target", TARGETS)
def test_corpus(target):
    done = subprocess.run([f"{BUILD}/fuzz/{target}", f"{HERE}/corpus/{target}"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(done.stdout.split()[0]) > 0
