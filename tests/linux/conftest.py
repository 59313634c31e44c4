# SPDX-License-Identifier: Apache-2.0
"""Linux guests in the lab: about one boot in fifty of the project's own kernel hangs there, spinning on a lock that nobody
holds, with one vCPU. Why is not known yet (the lab's QEMU runs code that was patched under it wrongly at times; a race in the
kernel is not ruled out). So a test whose guest hangs is repeated, which is said and counted; too many fail the run.
On hardware KVM nothing is repeated.
"""
import os
import sys

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "support"))
import wisp  # noqa: E402

IN_LAB = "WISP_LAB" in os.environ
MAX_HANGS = 12
hangs = []

if IN_LAB:
    wisp.LIMIT_S = 150


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    while True:
        try:
            pyfuncitem.obj(**arguments)
            return True
        except wisp.TimedOut:
            hangs.append(pyfuncitem.name)
            if not IN_LAB or len(hangs) > MAX_HANGS:
                raise


def pytest_terminal_summary(terminalreporter):
    if hangs:
        terminalreporter.write_line(f"guests that hung, and whose test was repeated: {', '.join(hangs)}")
