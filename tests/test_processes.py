"""Processes that this one starts end with it, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pagebench.host import processes

PARENT = """
import os, sys, time
from pathlib import Path
from pagebench.host import processes

parent = os.getpid()
child = os.fork()
if child == 0:
    processes.end_with(parent)
    Path(sys.argv[1]).write_text(str(os.getpid()))
    time.sleep(600)
os.waitpid(child, 0)
"""


def alive(pid: int) -> bool:
    """Not even as what waits for its parent to ask."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGHUP])
def test_a_child_ends_with_its_parent(number: signal.Signals, tmp_path: Path) -> None:
    begun = tmp_path / "child"
    with subprocess.Popen([sys.executable, "-c", PARENT, str(begun)]) as parent:
        while not begun.exists() or not begun.read_text():
            assert parent.poll() is None
            time.sleep(0.01)
        child = int(begun.read_text())
        assert alive(child)
        parent.send_signal(number)
    for _ in range(500):
        if not alive(child):
            return
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    pytest.fail("the child lives on")


def test_a_child_whose_parent_has_ended_ends_at_once() -> None:
    child = os.fork()
    if child == 0:
        processes.end_with(os.getppid() + 1)
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
