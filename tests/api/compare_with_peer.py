#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compares contract.txt with what a Firecracker binary really answers.

    PEER=path/to/firecracker tests/api/compare_with_peer.py            shows differences, exit code 1 if there are any
    PEER=path/to/firecracker tests/api/compare_with_peer.py --record   writes the peer's answers into contract.txt

Sessions marked [wisp only] are skipped: Firecracker lacks what they ask for, or they need what a test host may not have.
"""

import os
import sys

import contract


def main():
    peer = os.environ.get("PEER")
    if not peer:
        sys.exit("PEER=path names the Firecracker binary to compare with")
    differences = 0
    answers = []
    for name, arguments, exchanges in contract.load():
        if "[wisp only]" in name:
            answers.extend(None for _ in exchanges)
            continue
        with contract.Monitor(peer, *arguments) as monitor:
            for exchange in exchanges:
                answer = contract.perform(monitor, exchange.request)
                answers.append(answer)
                if answer != exchange.firecracker:
                    differences += 1
                    print(f"[{name}] {exchange.request}\n  contract: {exchange.firecracker}\n  peer:     {answer}")
    if "--record" in sys.argv:
        record(answers)
    elif differences:
        sys.exit(f"{differences} of {len(answers)} answers differ from the contract")
    else:
        print(f"{len(answers)} answers are as the contract says")


def record(answers):
    out = []
    index = 0
    for line in contract.CONTRACT.read_text().splitlines():
        if line.startswith("< "):
            continue
        out.append(line)
        if line.strip() and not line.startswith(("#", "=== ", "wisp< ")):
            if answers[index] is not None:
                out.append("< " + answers[index])
            index += 1
    contract.CONTRACT.write_text("\n".join(out) + "\n")


if __name__ == "__main__":
    main()
