# SPDX-License-Identifier: Apache-2.0
"""Results of a benchmark: JSON lines for machines, a table for people.

A line is {"name", "value", "unit", "goal"?, "reference"?: {"name", "value"}, "ratio"?}. The reference is the floor or
peer that was measured in the same run; the ratio is value / reference for a rate and reference / value for a cost, so
that more is better.
"""
import json
import os
import statistics

BUILD = os.environ.get("WISP_BUILD") or os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "build")


def prefix():
    """PRIORITY=30 runs a benchmark's contenders, all of them, as real-time processes: for machines that are not quiet."""
    priority = os.environ.get("PRIORITY")
    return ["chrt", "-r", priority] if priority else []


class Report:
    def __init__(self, bench):
        self.bench = bench
        self.lines = []
        os.makedirs(f"{BUILD}/bench", exist_ok=True)
        self.path = f"{BUILD}/bench/{bench}.jsonl"

    def add(self, name, value, unit, *, kind="cost", goal=None, reference=None, note=None):
        """kind: "cost" (less is better) or "rate"; reference: (name, value) measured in the same run."""
        line = {"name": name, "value": round(value, 4), "unit": unit}
        if goal is not None:
            line["goal"] = goal
        if reference:
            line["reference"] = {"name": reference[0], "value": round(reference[1], 4)}
            line["ratio"] = round(reference[1] / value if kind == "cost" else value / reference[1], 3) if value else None
        if note:
            line["note"] = note
        line["_kind"] = kind
        self.lines.append(line)

    def finish(self):
        with open(self.path, "w") as out:
            for line in self.lines:
                out.write(json.dumps({k: v for k, v in line.items() if not k.startswith("_")}) + "\n")
        print(f"\n{self.bench:<28}{'value':>12} {'unit':<8}{'goal':>10}   {'reference':<34}{'ratio':>7}")
        for line in self.lines:
            goal = ""
            if "goal" in line:
                met = line["value"] <= line["goal"] if line["_kind"] == "cost" else line["value"] >= line["goal"]
                goal = f"{'<=' if line['_kind'] == 'cost' else '>='} {line['goal']:g}"
                goal += " ok" if met else " --"
            reference = line.get("reference")
            text = f"{reference['name']} {reference['value']:g}" if reference else ""
            ratio = f"{line['ratio']:.2f}" if line.get("ratio") else ""
            print(f"  {line['name']:<26}{line['value']:>12g} {line['unit']:<8}{goal:>10}   {text:<34}{ratio:>7}"
                  + (f"  {line['note']}" if "note" in line else ""))
        print(f"written to {self.path}")


def spread(values):
    """(median, 90th percentile, minimum)"""
    ordered = sorted(values)
    return statistics.median(ordered), ordered[int(len(ordered) * 0.9)], ordered[0]
