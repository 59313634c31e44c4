# SPDX-License-Identifier: Apache-2.0
"""What the monitors of this host are doing: for the message of a test that waited in vain, taken before anything is ended. A guest
that waits for a timer, one that runs wild and a monitor that sleeps over an event look alike from outside."""
import glob
import os
import time

LOOK_S = 1.0  # what moved within it is told


def report():
    """A text of a few lines for each monitor."""
    pids = [pid for pid in filter(str.isdigit, os.listdir("/proc")) if read(f"/proc/{pid}/comm").strip() == "wisp"]
    before = {pid: counters(pid) for pid in pids}
    time.sleep(LOOK_S)
    lines = [line for pid in pids for line in monitor(pid, before[pid], counters(pid))]
    return "\n".join(["", f"monitors here: {len(pids)}", *lines, *kvm_timers()])


def read(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def counters(pid):
    """Names and values of all that counts up: processor time of each thread, what KVM counts for the machine and its vCPUs."""
    found = {f"{thread} run_ns": (read(f"/proc/{pid}/task/{thread}/schedstat").split() or ["0"])[0] for thread in threads(pid)}
    for path in glob.glob(f"/sys/kernel/debug/kvm/{pid}-*/**", recursive=True):
        if os.path.isfile(path):
            found[path.partition(f"kvm/{pid}-")[2]] = read(path).strip()
    return {name: int(value) for name, value in found.items() if value.isdigit()}


def threads(pid):
    try:
        return sorted(os.listdir(f"/proc/{pid}/task"))
    except OSError:
        return []


def monitor(pid, before, after):
    yield f"{pid}: {read(f'/proc/{pid}/cmdline')[:200]!r}"
    for thread in threads(pid):
        at = f"/proc/{pid}/task/{thread}"
        stack = " < ".join(line.split()[1].partition("+")[0] for line in read(f"{at}/stack").splitlines())
        state = (read(f"{at}/stat").rpartition(") ")[2].split() or ["gone"])[0]
        yield f"  {read(f'{at}/comm').strip()} {state}, system call {read(f'{at}/syscall').split(' ')[0].strip()}: {stack}"
    for name in sorted(after):
        if moved := after[name] - before.get(name, 0):
            yield f"  {name} +{moved} in {LOOK_S} s, now {after[name]}"


def kvm_timers():
    """The host's timers on behalf of guests, with when they are due."""
    lines = read("/proc/timer_list").splitlines()
    for number, line in enumerate(lines):
        if "apic_timer_fn" in line:
            yield f"  {line.strip()} {lines[number + 1].strip()}"
