# SPDX-License-Identifier: Apache-2.0
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "support"))
import standing_clock  # noqa: E402

pytest_runtest_protocol = standing_clock.pytest_runtest_protocol


def pytest_addoption(parser):
    parser.addoption("--lane", default="0/1", help="I/N: only every Nth test, from the Ith on, for runs side by side")


def pytest_collection_modifyitems(config, items):
    lane, lanes = map(int, config.getoption("--lane").split("/"))
    config.hook.pytest_deselected(items=[item for number, item in enumerate(items) if number % lanes != lane])
    items[:] = items[lane::lanes]
