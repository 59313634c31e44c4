# SPDX-License-Identifier: Apache-2.0
"""The commands run, up and down."""

import argparse
import contextlib
import fcntl
import os
import signal
import sys

import l1
from client import Disconnected, Interrupted, NotUp, Session
from common import BUILD, EXIT_LAB, EXIT_TIMEOUT, PROJECT, LabError

PATH = "/run/lab/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def parser(name, text):
    result = argparse.ArgumentParser(prog=f"tests/lab/{name}", description=text)
    result.add_argument("--icount", action="store_true", help="count instructions: 1 ns of L1's time is 1 instruction")
    result.add_argument("--smp", type=int, metavar="N", help="CPUs of L1 (1; with more, guests hang at times; with --icount always 1)")
    result.add_argument("--mem", type=int, default=3072, metavar="MIB", help="memory of L1 (3072)")
    result.add_argument("--cgroup", choices=("v1", "v2", "hybrid"), default="v2", help="what is at /sys/fs/cgroup (v2)")
    result.add_argument("--boot-timeout", type=float, default=120, metavar="S", help="give up if L1 is not up by then (120)")
    return result


def run_main(argv):
    """tests/lab/run [OPTION...] -- COMMAND..."""
    cut = argv.index("--") if "--" in argv else len(argv)
    arguments = parser("run", "Runs COMMAND on a KVM-capable Linux (L1) and returns its exit code.")
    arguments.usage = "tests/lab/run [OPTION...] -- COMMAND..."
    arguments.add_argument("--keep", action="store_true", help="leave L1 up for further runs, until tests/lab/down")
    arguments.add_argument("--fresh", action="store_true", help="do not use an L1 that is up")
    arguments.add_argument("--timeout", type=float, default=1800, metavar="S", help="kill COMMAND after S seconds (1800; 0: never)")
    arguments.add_argument("--env", action="append", default=[], metavar="K[=V]", help="set K in COMMAND's environment (or pass it on)")
    arguments.add_argument("--stage", action="extend", nargs="+", default=[], metavar="FILE", help="copy FILE to L1's /stage, in memory")
    options = arguments.parse_args(argv[:cut])
    command = argv[cut + 1:]
    if not command:
        arguments.error("no COMMAND after --")
    env, stage, cwd = environment(options), [stage_path(f) for f in options.stage], working_directory()
    with some_l1(options) as machine:
        with session_on(machine, options.boot_timeout, f"ran {command[0]}") as session:
            code = session.run(command, cwd, env, stage, options.timeout)
        if code == EXIT_TIMEOUT and session.timed_out:
            complain(f"{command[0]} did not end within {options.timeout:g} s and was killed")
    return code


@contextlib.contextmanager
def some_l1(options):
    """An L1 that is up and fits, or a new one, which ends with us unless it is to be kept."""
    wanted = l1.wanted_info(options)
    if options.keep:
        yield kept_l1(wanted)
        return
    fitting = [m for m in l1.running() if m.info["kept"] and m.fits(wanted)]
    if fitting and not options.fresh:
        yield fitting[0]
        return
    machine = l1.start(f"run-{os.getpid()}", wanted, kept=False)
    try:
        yield machine
    finally:
        machine.down()


@contextlib.contextmanager
def session_on(machine, boot_timeout_s, doing):
    try:
        with machine.slot() as connection:
            yield Session(connection, boot_timeout_s, nudge=not machine.info["icount"])
    except (Disconnected, ConnectionRefusedError, FileNotFoundError):
        raise LabError(f"L1 ended while it {doing}: {machine.last_words()} (its console's log: {l1.LAST_CONSOLE})") from None
    except NotUp:
        raise LabError(f"L1 did not answer within {boot_timeout_s:g} s: raise --boot-timeout if this machine is busy, "
                       f"or see {l1.LAST_CONSOLE}") from None


def kept_l1(wanted):
    os.makedirs(l1.FOLDER, exist_ok=True)
    with open(f"{BUILD}/lab/up.lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two that come at once want one L1
        for machine in l1.running():
            if machine.info["kept"] and machine.fits(wanted):
                return machine
        return l1.start(f"kept-{os.getpid()}", wanted, kept=True)


def up_main(argv):
    """tests/lab/up [OPTION...]"""
    options = parser("up", "Brings up an L1 that tests/lab/run then uses, until tests/lab/down.").parse_args(argv)
    machine = kept_l1(l1.wanted_info(options))
    try:
        with session_on(machine, options.boot_timeout, "booted"):
            pass
    except BaseException:
        machine.down()
        raise
    return 0


def down_main(argv):
    """tests/lab/down"""
    argparse.ArgumentParser(prog="tests/lab/down", description="Ends every L1 that was kept up.").parse_args(argv)
    for machine in l1.running():
        if machine.info["kept"]:
            machine.down()
    return 0


def environment(options):
    """What COMMAND sees. The caller's variables are not passed on, so that a test does the same wherever it is called."""
    env = {"PATH": PATH, "HOME": "/run/lab/home", "USER": "root", "LOGNAME": "root", "SHELL": "/bin/bash", "LANG": "C.UTF-8",
           "PYTHONDONTWRITEBYTECODE": "1", "WISP_BUILD": BUILD, "WISP_LAB": "icount" if options.icount else "1"}
    for item in options.env:
        name, has_value, value = item.partition("=")
        if has_value:
            env[name] = value
        elif name in os.environ:
            env[name] = os.environ[name]
    return env


def visible(path):
    return any(path == top or path.startswith(top + "/") for top in (PROJECT, BUILD))


def stage_path(path):
    """Where L1 sees the host's file, which may lie below /tmp or another folder that L1 has of its own."""
    real = os.path.realpath(path)
    if not os.path.isfile(real):
        raise LabError(f"cannot stage {path}: it is not a file")
    return real if visible(real) else f"/run/lab/host{real}"


def working_directory():
    here = os.getcwd()
    return here if visible(here) else PROJECT


def complain(text):
    print(f"lab: {text}", file=sys.stderr)


def on_signal(number, _):
    raise Interrupted(number)


def main(entry):
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, on_signal)
    try:
        code = entry(sys.argv[1:])
    except LabError as error:
        complain(error)
        code = EXIT_LAB
    except Interrupted as interrupted:
        code = 128 + interrupted.number
    except BrokenPipeError:
        code = 128 + signal.SIGPIPE
    sys.exit(code)
