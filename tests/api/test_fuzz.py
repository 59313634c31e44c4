# SPDX-License-Identifier: Apache-2.0
"""fuzz_api.py with a bounded number of requests, FUZZ_REQUESTS of them, and a seed of chance; a million take about a minute."""
import subprocess
import sys
from pathlib import Path


def test_requests_of_all_kinds_leave_the_server_as_it_was():
    done = subprocess.run([sys.executable, "-B", Path(__file__).with_name("fuzz_api.py")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
