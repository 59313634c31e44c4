# SPDX-License-Identifier: Apache-2.0
"""A test that fails while the machine stands still has met its time limits all at once: it is run once more, and that is said.

    PYTHONPATH=tests/support python3 -m pytest -p standing_clock …
"""
import threading
import time

from _pytest.runner import runtestprotocol

STOOD_STILL_S = 5.0
TICK_S = 0.5


class Clock(threading.Thread):
    """Ticks all the time; where a tick comes late, nothing ran."""

    def __init__(self):
        super().__init__(daemon=True)
        self.longest_s = 0.0
        self.start()

    def run(self):
        last = time.monotonic()
        while True:
            time.sleep(TICK_S)
            now = time.monotonic()
            self.longest_s, last = max(self.longest_s, now - last), now

    def take(self):
        """The longest tick since the last call, in seconds."""
        time.sleep(2 * TICK_S)  # the one that is under way is counted
        longest, self.longest_s = self.longest_s, 0.0
        return longest


clock = Clock()


def pytest_runtest_protocol(item, nextitem):
    hook, where = item.ihook, item.location
    hook.pytest_runtest_logstart(nodeid=item.nodeid, location=where)
    clock.longest_s = 0.0
    reports = runtestprotocol(item, nextitem=nextitem, log=False)
    failed = [report for report in reports if report.failed]
    if failed and (stood_s := clock.take()) > STOOD_STILL_S:
        print(f"\n{item.nodeid} failed while this machine stood still for {stood_s:.0f} s; once more. It said:\n{failed[0].longrepr}")
        item.session._setupstate.teardown_exact(None)  # a fixture that failed is set up anew
        reports = runtestprotocol(item, nextitem=nextitem, log=False)
    for report in reports:
        hook.pytest_runtest_logreport(report=report)
    hook.pytest_runtest_logfinish(nodeid=item.nodeid, location=where)
    return True
