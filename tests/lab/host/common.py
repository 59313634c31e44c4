# SPDX-License-Identifier: Apache-2.0
"""Paths that every part of the lab agrees on, and its one kind of error."""

import os

LAB = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
PROJECT = os.path.dirname(os.path.dirname(LAB))
BUILD = os.path.realpath(os.environ.get("WISP_BUILD") or f"{PROJECT}/build")

EXIT_TIMEOUT = 124
EXIT_LAB = 125


class LabError(Exception):
    """The lab itself failed: one line for people, exit code 125."""
