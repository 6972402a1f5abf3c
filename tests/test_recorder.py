"""Recording loops, run: room, its end, and faults that are none of theirs."""

from __future__ import annotations

import errno
import platform
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hand_made import loop

from pagebench import core
from pagebench.cache import recorded
from pagebench.code.recording import BEGIN, BRANCH, END
from pagebench.errors import PagebenchError

pytestmark = [
    pytest.mark.usefixtures("own_cache"),
    pytest.mark.skipif(platform.machine() != "x86_64", reason="hand-made code is x86-64's"),
]
# Two accesses a lookup, and the return's.
TWICE = "1: mov rax, [rdi]; mov eax, [rsi]; add rsi, 4; dec rdx; jne 1b; ret"
FOR_EVER = "1: mov rax, [rdi]; jmp 1b; ret"
ROOM = 4096 // 8


def ready_to_run(text: str) -> tuple[core.RecordingLoops, int]:
    ready = recorded.record({("", "by hand"): loop(text)})
    return ready.loops, ready.runs["", "by hand"]


def lookups(n: int) -> core.Offsets:
    return np.arange(n, dtype=np.uint32)


@pytest.fixture
def memory() -> core.Offsets:
    return np.zeros(64, np.uint32)


def test_records_are_there_until_the_next(memory: core.Offsets) -> None:
    loops, run = ready_to_run(TWICE)
    offsets = lookups(3)
    with core.Recorder(loops, ROOM) as recorder:
        records, last = recorder.run(run, memory.ctypes.data, offsets)
        assert (last, len(records), records.dtype) == (2, 3 * 3 + 1, np.uint64)
        branches = records[records >= np.uint64(BRANCH)]
        assert (branches & np.uint64(1)).tolist() == [1, 1, 0]
        again, _ = recorder.run(run, memory.ctypes.data, offsets[:1])
        assert len(again) == 4
        assert again.ctypes.data == records.ctypes.data


def test_room_is_for_so_many_and_no_more(memory: core.Offsets) -> None:
    loops, run = ready_to_run(TWICE)
    fits = (ROOM - 1) // 3
    with core.Recorder(loops, ROOM) as recorder:
        for _ in range(2):
            records, _ = recorder.run(run, memory.ctypes.data, lookups(fits))
            assert ROOM - 3 < len(records) <= ROOM
            with pytest.raises(
                PagebenchError, match=rf"{fits + 1} lookups touch memory more than {ROOM} times"
            ):
                recorder.run(run, memory.ctypes.data, lookups(fits + 1))


def test_a_loop_that_does_not_end_ends_there(memory: core.Offsets) -> None:
    loops, run = ready_to_run(FOR_EVER)
    with (
        core.Recorder(loops, 10 * ROOM) as recorder,
        pytest.raises(PagebenchError, match="a loop that does not end cannot be recorded") as error,
    ):
        recorder.run(run, memory.ctypes.data, lookups(1))
    assert "\n" not in str(error.value)


def test_recorders_of_one_object_take_turns(memory: core.Offsets) -> None:
    loops, run = ready_to_run(TWICE)
    for _ in range(3):
        with core.Recorder(loops, ROOM) as recorder:
            assert len(recorder.run(run, memory.ctypes.data, lookups(2))[0]) == 7


@pytest.mark.parametrize(
    ("records", "error"), [(0, errno.EINVAL), (1 << 59, errno.EINVAL), (1 << 50, errno.ENOMEM)]
)
def test_memory_that_is_not_there_is_an_error(records: int, error: int) -> None:
    loops, _ = ready_to_run(TWICE)
    with pytest.raises(OSError, match="room for") as raised:
        core.Recorder(loops, records)
    assert raised.value.errno == error


def test_closed_twice() -> None:
    recorder = core.Recorder(ready_to_run(TWICE)[0], ROOM)
    recorder.close()
    recorder.close()


def test_what_is_no_object_of_loops(tmp_path: Path) -> None:
    file = tmp_path / "x.so"
    file.write_bytes(b"no object")
    with pytest.raises(PagebenchError, match="cannot load compiled code"):
        core.RecordingLoops.load(file, BEGIN, END)
    loops, _ = ready_to_run(TWICE)
    with pytest.raises(ValueError, match="no_such_loop"):
        loops.run_of("no_such_loop")


PROGRAM = """
import ctypes, sys
sys.path.insert(0, {tests!r})
import numpy as np
from test_recorder import FOR_EVER, ROOM, lookups, ready_to_run
from pagebench import core
from pagebench.errors import PagebenchError

def caught():
    status = open("/proc/self/status").read().split("SigCgt:")[1].split()[0]
    return int(status, 16) >> 10 & 1  # SIGSEGV

assert not caught()
loops, run = ready_to_run(FOR_EVER)
with core.Recorder(loops, ROOM) as recorder:
    for _ in range(3):
        try:
            recorder.run(run, np.zeros(1).ctypes.data, lookups(1))
            raise SystemExit(9)
        except PagebenchError:
            assert not caught()
    print("recorded", flush=True)
    {what}
print("survived")
"""


@pytest.mark.parametrize(
    "what",
    [
        "recorder.run(run, 8, lookups(1))",  # in the loop, outside the guard
        "ctypes.string_at(8)",  # behind it
    ],
)
def test_other_faults_kill_as_ever(what: str) -> None:
    program = PROGRAM.format(tests=str(Path(__file__).parent), what=what)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("recorded\n", -signal.SIGSEGV), done.stderr


def test_nothing_is_left_of_the_signals_handler() -> None:
    program = PROGRAM.format(tests=str(Path(__file__).parent), what="assert not caught()")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("recorded\nsurvived\n", 0), done.stderr
