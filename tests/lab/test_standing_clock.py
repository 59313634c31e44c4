# SPDX-License-Identifier: Apache-2.0
import os
import signal
import subprocess
import time

TESTS = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
CONFTEST = """
import standing_clock
standing_clock.STOOD_STILL_S = 2.0
"""
FAILS_ONCE = """
import os, pytest, signal
@pytest.fixture(scope="module")
def fails_once():
    if not os.path.exists("again"):
        open("again", "w").close()
        if os.path.exists("stand"):
            os.kill(os.getpid(), signal.SIGSTOP)
        assert False, "the first time"
def test_it(fails_once):
    pass
def test_the_next(fails_once):
    pass
"""


def outcome(folder):
    (folder / "test_it.py").write_text(FAILS_ONCE)
    process = subprocess.Popen(["/usr/bin/python3", "-B", "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", "-p", "standing_clock",
                                "test_it.py"], cwd=folder, env={**os.environ, "PYTHONPATH": f"{TESTS}/support"}, stdout=subprocess.PIPE,
                               text=True)
    if (folder / "stand").exists():
        os.waitid(os.P_PID, process.pid, os.WSTOPPED)
        time.sleep(3)  # what is tested is time that passes
        process.send_signal(signal.SIGCONT)
    output, _ = process.communicate(timeout=300)
    return process.returncode, output


def test_what_failed_while_the_machine_stood_still_is_run_once_more(tmp_path):
    (tmp_path / "stand").touch()
    (tmp_path / "conftest.py").write_text(CONFTEST)
    code, output = outcome(tmp_path)
    assert code == 0 and "stood still" in output and "the first time" in output, output


def test_what_failed_while_it_ran_has_failed(tmp_path):
    code, output = outcome(tmp_path)
    assert code == 1 and "stood still" not in output, output
