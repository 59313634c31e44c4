# SPDX-License-Identifier: Apache-2.0
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "support"))


def pytest_addoption(parser):
    parser.addoption("--lane", default="0/1", help="I/N: only every Nth test, from the Ith on, for runs side by side")


def pytest_collection_modifyitems(config, items):
    lane, lanes = map(int, config.getoption("--lane").split("/"))
    config.hook.pytest_deselected(items=[item for number, item in enumerate(items) if number % lanes != lane])
    items[:] = items[lane::lanes]
