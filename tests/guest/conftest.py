# SPDX-License-Identifier: Apache-2.0
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "support"))
import standing_clock  # noqa: E402

pytest_runtest_protocol = standing_clock.pytest_runtest_protocol
