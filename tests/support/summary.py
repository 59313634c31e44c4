# SPDX-License-Identifier: Apache-2.0
"""Adds up the JUnit files of a test run: what failed, what was skipped and why, and one closing line."""
import glob
import sys
import xml.etree.ElementTree as xml

passed = failed = skipped = 0
for path in sorted(glob.glob(f"{sys.argv[1]}/*.xml")):
    for case in xml.parse(path).getroot().iter("testcase"):
        name = f"{case.get('classname')}: {case.get('name')}"
        skip = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None:
            failed += 1
            print(f"FAILED  {name}")
        elif skip is not None:
            skipped += 1
            print(f"skipped {name}: {skip.get('message')}")
        else:
            passed += 1
print(f"{passed} passed, {failed} failed, {skipped} skipped")
sys.exit(1 if failed or not passed else 0)
