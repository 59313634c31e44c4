#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""`make bench-picture`: draws what the last benchmarks wrote to build/bench/*.jsonl as build/bench/benchmarks.svg.

One row for each measure that has something to be compared with: a bar for Wisp, one for the peer of the same run where PEER= was given,
and a line for the floor (what the host does without a VM: fio, a socket pair, a plain process). Each row has its own scale.
"""
import glob
import html
import json
import os
import sys

import report

WIDTH, LEFT, BAR_ROOM, ROW = 960, 270, 520, 46
BAR, GAP, TOP = 14, 3, 60
WISP, PEER, FLOOR, TEXT, FAINT = "#1f6feb", "#b0b7c0", "#d1242f", "#1f2328", "#656d76"


def read_lines(path):
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.strip()]


def is_peer(name):
    return name == "peer" or name.startswith("peer.") or name.startswith("Firecracker")


class Row:
    """A measure of Wisp's, with the peer's value and the floor where the run had them."""

    def __init__(self, line, by_name):
        self.name, self.value, self.unit = line["name"], line["value"], line["unit"]
        reference = line.get("reference", {})
        self.peer = self.floor = None
        if is_peer(reference.get("name", "")):
            self.peer = reference["value"]
        elif reference:
            self.floor = reference["value"]
        # A peer's line has the measure's whole name, or the part behind its first word.
        for name in (f"peer.{self.name}", f"peer.{self.name.partition('.')[2]}"):
            if self.peer is None and name in by_name:
                self.peer = by_name[name]["value"]
        floor = by_name.get(f"{self.name.partition('.')[0]}.floor")
        if self.floor is None and floor and floor["unit"] == self.unit:
            self.floor = floor["value"]

    @property
    def more_is_better(self):
        return self.unit.endswith("/s")

    @property
    def largest(self):
        return max(self.value, self.peer or 0, self.floor or 0)


def rows_of(paths):
    rows = []
    for path in paths:
        lines = read_lines(path)
        by_name = {line["name"]: line for line in lines}
        for line in lines:
            if is_peer(line["name"]) or line["name"].endswith(".floor"):
                continue
            row = Row(line, by_name)
            if row.largest > 0 and (row.peer is not None or row.floor is not None):
                rows.append(row)
    return rows


def text(x, y, what, *, size=12, colour=TEXT, anchor="start"):
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{colour}" text-anchor="{anchor}">{html.escape(what)}</text>'


def bar(y, value, largest, colour, label):
    width = BAR_ROOM * value / largest
    return [f'<rect x="{LEFT}" y="{y}" width="{max(width, 1):.1f}" height="{BAR}" rx="2" fill="{colour}"/>',
            text(LEFT + width + 6, y + BAR - 3, label)]


def legend():
    parts = [text(16, 26, "Wisp, measured", size=16)]
    x = LEFT
    for colour, name in ((WISP, "Wisp"), (PEER, "Firecracker, same run"), (FLOOR, "floor: the host without a VM")):
        parts += [f'<rect x="{x}" y="14" width="12" height="12" fill="{colour}"/>', text(x + 18, 25, name)]
        x += 40 + 7 * len(name)
    return parts


def draw(rows):
    height = TOP + ROW * len(rows) + 16
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif">',
             f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>', *legend()]
    for number, row in enumerate(rows):
        y = TOP + ROW * number
        parts += [text(16, y + 12, row.name), text(16, y + 28, f"{row.unit}, {'more' if row.more_is_better else 'less'} is better", size=11, colour=FAINT)]
        parts += bar(y, row.value, row.largest, WISP, f"{row.value:g}")
        if row.peer is not None:
            parts += bar(y + BAR + GAP, row.peer, row.largest, PEER, f"{row.peer:g}")
        if row.floor is not None:
            x = LEFT + BAR_ROOM * row.floor / row.largest
            parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{y - 3}" y2="{y + 2 * BAR + GAP + 3}" stroke="{FLOOR}" stroke-width="2"/>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def main():
    paths = sorted(glob.glob(f"{report.BUILD}/bench/*.jsonl"))
    rows = rows_of(paths)
    if not rows:
        sys.exit(f"bench-picture: nothing to compare in {report.BUILD}/bench/*.jsonl: run make bench BENCH=start PEER=path first")
    path = f"{report.BUILD}/bench/benchmarks.svg"
    with open(path, "w", encoding="utf-8") as out:
        out.write(draw(rows))
    print(f"bench-picture: {len(rows)} rows of {', '.join(map(os.path.basename, paths))}: {path}")


if __name__ == "__main__":
    main()
