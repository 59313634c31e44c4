# SPDX-License-Identifier: Apache-2.0
"""The contract with Firecracker's clients, on the monitor itself: tests/api holds it against the API alone."""
import os
import sys

import pytest
import wisp

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "api"))
import contract  # noqa: E402


@pytest.mark.parametrize("session", contract.load(), ids=lambda session: session[0])
def test_contract(session):
    name, arguments, exchanges = session
    if "[needs a tap]" in name and not (os.access("/dev/net/tun", os.R_OK | os.W_OK) and os.geteuid() == 0):
        pytest.skip("taps need /dev/net/tun and root")
    with contract.Monitor(wisp.WISP, *wisp.FLAGS, *arguments) as monitor:
        for exchange in exchanges:
            assert contract.perform(monitor, exchange.request) == exchange.expected("wisp"), exchange.request
