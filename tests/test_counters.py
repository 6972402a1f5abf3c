"""Hardware counters: what is made of a read, and the whole path over software events.

Most machines that run these tests have no PMU.  The path is therefore also run over events that every
kernel counts, page faults above all, by compiling csrc/counters.c with the system call in between.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cffi
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagebench import core
from pagebench.core import counters
from pagebench.core.extension import check, lib

CSRC = Path(__file__).parent.parent / "csrc"
IDS = {name: 101 + i for i, name in enumerate(counters.EVENTS)}
# Six events over 3500 lookups, as a Zen 4 would return them.
VALUES = dict(zip(counters.EVENTS, (105_120, 33_310, 41, 3_402, 12, 7), strict=True))


def group(ids: dict[str, int], enabled_ns: int = 34_700, running_ns: int = 34_700) -> list[int]:
    words = [len(ids), enabled_ns, running_ns]
    for name, number in ids.items():
        words += [VALUES[name], number]
    return words


def parse(words: list[int], ids: dict[str, int] = IDS) -> counters.Counts:
    """The counts in the words read from a perf_event group whose events have these ids."""
    group = core.ffi.new("struct pb_counters *", {"id": [ids.get(name, 0) for name in counters.EVENTS]})
    ret = core.ffi.new("struct pb_counts *")
    buffer = core.array("uint64_t[]", np.array(words, dtype=np.uint64))
    check(lib.pb_counters_parse(group, buffer, len(words), ret), "reading the hardware counters")
    return counters.Counts.of(ret)


def test_a_read_gives_each_event_its_count() -> None:
    assert parse(group(IDS)) == counters.Counts(VALUES, 34_700, 34_700)


def test_the_ids_name_the_events_not_their_order() -> None:
    assert parse(group(dict(reversed(IDS.items())))).values == VALUES


def test_a_multiplexed_group_is_scaled_up() -> None:
    counts = parse(group(IDS, enabled_ns=40_000, running_ns=10_000))
    assert counts.values == {name: 4 * value for name, value in VALUES.items()}
    assert (counts.enabled_ns, counts.running_ns) == (40_000, 10_000)


@given(
    value=st.integers(0, 2**48 - 1),
    running=st.integers(1, 2**40),
    waited=st.integers(0, 2**40),
)
def test_scaling_is_the_ratio_of_the_times(value: int, running: int, waited: int) -> None:
    words = [1, running + waited, running, value, IDS["cycles"]]
    expected = value * (running + waited) / running
    if expected < 2**63:
        assert parse(words).values["cycles"] == pytest.approx(expected, rel=1e-12, abs=0.5)
    if not waited:
        assert parse(words).values["cycles"] == value


def test_nothing_is_valid_where_the_group_never_ran() -> None:
    assert parse(group(IDS, running_ns=0)) == counters.Counts({}, 34_700, 0)


def test_refused_members_are_absent() -> None:
    ids = {name: IDS[name] for name in ("cycles", "instructions", "branch_misses")}
    assert parse(group(ids), ids).values == {name: VALUES[name] for name in ids}


@pytest.mark.parametrize("words", range(len(group(IDS))))
def test_a_short_read_is_refused(words: int) -> None:
    with pytest.raises(OSError, match="reading the hardware counters") as caught:
        parse(group(IDS)[:words])
    assert caught.value.errno == errno.EINVAL


FOREIGN = {
    "a member too many": [*group(IDS), 1, 107],
    "seven events": [7, 1, 1, *[0, 0] * 7],
    "more events than words can count": [2**63, 1, 1],
    "an unknown id": [1, 1, 1, 5, 99],
    "the id of no event": [1, 1, 1, 5, 0],
    "an event twice": [2, 1, 1, 5, 101, 5, 101],
    "with PERF_FORMAT_LOST": [1, 1, 1, 5, 101, 0],
}


@pytest.mark.parametrize("words", FOREIGN.values(), ids=FOREIGN)
def test_a_foreign_read_is_refused(words: list[int]) -> None:
    with pytest.raises(OSError, match="reading the hardware counters") as caught:
        parse(words)
    assert caught.value.errno == errno.EINVAL


@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        (errno.ENOENT, "no PMU: .* add chain"),
        (errno.ENODEV, "no PMU: .* add chain"),
        (errno.EOPNOTSUPP, "no PMU: .* add chain"),
        (errno.ENOSYS, "built without perf events"),
        (errno.EACCES, "sysctl kernel.perf_event_paranoid"),
        (errno.EPERM, "sysctl kernel.perf_event_paranoid"),
        (errno.EBUSY, "sysctl kernel.nmi_watchdog"),
        (errno.EMFILE, "opening hardware counters: Too many open files"),
    ],
)
def test_a_refusal_is_a_sentence(monkeypatch: pytest.MonkeyPatch, number: int, sentence: str) -> None:
    monkeypatch.setattr(counters, "lib", SimpleNamespace(pb_counters_init=lambda ret: -number))
    with pytest.raises(OSError, match=sentence) as caught:
        counters.Counters()
    assert caught.value.errno == number


def test_this_machine_counts_or_says_why_not() -> None:
    offsets = np.zeros(1, dtype=np.uint32)
    sample = np.zeros(1, dtype=core.SAMPLE_DTYPE)
    sample["run"], sample["base"], sample["offsets"] = (
        core.ADD_CHAIN,
        offsets.ctypes.data,
        offsets.ctypes.data,
    )
    sample["lookups"] = 64_000
    try:
        opened = counters.Counters()
    except OSError as refusal:
        assert refusal.errno != errno.EINVAL
        assert re.search("no PMU|sysctl kernel.|built without perf events", refusal.strerror)
        return
    with opened:
        assert sorted(opened.events + opened.refused) == sorted(counters.EVENTS)
        counts = opened.run(sample)
        assert set(counts) == set(opened.events)
        assert 0.9 < counts["cycles"] < 2
        assert 1 <= counts.get("instructions", 1) < 1.2


RIG = r"""
#include <stdarg.h>
#define syscall rig_syscall
#define read rig_read
#include "counters.c"
#undef syscall
#undef read

long syscall(long number, ...);
ssize_t read(int fd, void *buffer, size_t bytes);

static const uint64_t software[PB_EVENTS] = {
	PERF_COUNT_SW_TASK_CLOCK,	PERF_COUNT_SW_PAGE_FAULTS,
	PERF_COUNT_SW_PAGE_FAULTS_MIN,	PERF_COUNT_SW_PAGE_FAULTS_MAJ,
	PERF_COUNT_SW_CPU_MIGRATIONS,	PERF_COUNT_SW_ALIGNMENT_FAULTS,
};

/* The errno that each event is refused with, and how many the PMU holds. */
int rig_errno[PB_EVENTS];
uint64_t rig_fits = PB_EVENTS;

/* What each event was asked for. */
struct rig_asked {
	uint32_t type;
	uint64_t config, read_format;
	int pid, cpu, leader, disabled, user_only;
	unsigned long flags;
} rig_asked[PB_EVENTS];

long rig_syscall(long number, ...)
{
	struct perf_event_attr attr;
	struct rig_asked asked;
	va_list ap;
	int event;

	va_start(ap, number);
	attr = *va_arg(ap, struct perf_event_attr *);
	asked.type = attr.type;
	asked.config = attr.config;
	asked.read_format = attr.read_format;
	asked.pid = va_arg(ap, int);
	asked.cpu = va_arg(ap, int);
	asked.leader = va_arg(ap, int);
	asked.flags = va_arg(ap, unsigned long);
	asked.disabled = attr.disabled;
	asked.user_only = attr.exclude_kernel && attr.exclude_hv && !attr.exclude_user;
	va_end(ap);
	for (event = 0; event < PB_EVENTS; event++)
		if (events[event].type == attr.type && events[event].config == attr.config)
			break;
	if (event == PB_EVENTS || rig_errno[event]) {
		errno = event == PB_EVENTS ? ENOTTY : rig_errno[event];
		return -1;
	}
	rig_asked[event] = asked;
	attr.type = PERF_TYPE_SOFTWARE;
	attr.config = software[event];
	return syscall(number, &attr, asked.pid, asked.cpu, asked.leader, asked.flags);
}

ssize_t rig_read(int fd, void *buffer, size_t bytes)
{
	ssize_t got = read(fd, buffer, bytes);
	uint64_t *words = buffer;

	if (got > 0 && words[NR] > rig_fits)
		words[TIME_RUNNING] = 0;
	return got;
}

static const void *touch(const void *base, const uint32_t *offsets, size_t n)
{
	volatile char *byte = 0;

	for (size_t i = 0; i < n; i++) {
		byte = (volatile char *)base + (size_t)offsets[i] * 8;
		*byte = 1;
	}
	return (const void *)byte;
}

pb_probe_fn *rig_touch = touch;
"""

ASKED = """
struct rig_asked {
    uint32_t type;
    uint64_t config, read_format;
    int pid, cpu, leader, disabled, user_only;
    unsigned long flags;
};
extern struct rig_asked rig_asked[6];
"""
# <linux/perf_event.h>: TOTAL_TIME_ENABLED | TOTAL_TIME_RUNNING | ID | GROUP
READ_FORMAT = 0b1111
PERF_FLAG_FD_CLOEXEC = 8
# perf_event_open(2): hardware events are type 0, cache events type 3 with cache | op << 8 | result << 16
EVENTS = [(0, 0), (0, 1), (0, 5), (3, 0x10000), (3, 0x10002), (3, 0x10003)]


class Rig:
    """csrc/counters.c over software events, which the kernel counts without a PMU."""

    def __init__(self, library: Path) -> None:
        header = (CSRC / "pagebench.h").read_text()
        self.ffi = cffi.FFI()
        self.ffi.cdef("".join(line for line in header.splitlines(True) if not line.startswith("#")))
        self.ffi.cdef("extern int rig_errno[6]; extern uint64_t rig_fits; extern pb_probe_fn *rig_touch;")
        self.ffi.cdef(ASKED)
        self.lib: Any = self.ffi.dlopen(str(library))
        self.counters = self.ffi.new("struct pb_counters *")

    def init(self) -> int:
        return int(self.lib.pb_counters_init(self.counters))

    def opened(self) -> list[str]:
        return [name for name, fd in zip(counters.EVENTS, self.counters.fd, strict=True) if fd >= 0]

    def touch_pages(self, warm_up: int, pages: int) -> Any:
        """What is counted while so many untouched pages are written, after a warm-up."""
        private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        with mmap.mmap(-1, (warm_up + pages) * mmap.PAGESIZE, flags=private) as memory:
            with contextlib.suppress(OSError):  # a kernel without THP
                memory.madvise(mmap.MADV_NOHUGEPAGE)
            base = self.ffi.from_buffer(memory)
            offsets = np.arange(warm_up + pages, dtype=np.uint32) * (mmap.PAGESIZE // 8)
            sample = self.ffi.new(
                "struct pb_sample *",
                {"run": self.lib.rig_touch, "base": base, "warm_up": warm_up, "lookups": pages, "ticks": 5},
            )
            sample.offsets = self.ffi.from_buffer("uint32_t[]", offsets)
            counts = self.ffi.new("struct pb_counts *")
            assert self.lib.pb_counters_run(self.counters, sample, counts) == 0
            assert sample.last == base + int(offsets[-1]) * 8
            assert sample.ticks == 5
            self.ffi.release(base)
        return counts


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cc = shutil.which("cc")
    if cc is None:
        pytest.skip("needs a C compiler")
    folder = tmp_path_factory.mktemp("rig")
    (folder / "rig.c").write_text(RIG)
    flags = ["-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", f"-I{CSRC}"]
    sources = [folder / "rig.c", CSRC / "clock.c"]
    subprocess.run([cc, *flags, *sources, "-o", folder / "rig.so"], check=True)
    return folder / "rig.so"


@pytest.fixture
def rig(library: Path) -> Iterator[Rig]:
    made = Rig(library)
    made.lib.rig_fits = len(counters.EVENTS)
    for i in range(len(counters.EVENTS)):
        made.lib.rig_errno[i] = 0
    result = made.init()
    if result:
        pytest.skip(f"needs perf_event_open for software events: {errno.errorcode[-result]}")
    yield made
    made.lib.pb_counters_deinit(made.counters)


def test_the_batch_is_counted_and_the_warm_up_is_not(rig: Rig) -> None:
    counts = rig.touch_pages(warm_up=7, pages=40)
    assert counts.valid == 0b111111
    assert counts.value[1] == counts.value[2] == 40
    assert counts.running_ns == counts.enabled_ns > 0


def test_nothing_is_carried_over_to_the_next_batch(rig: Rig) -> None:
    long = rig.touch_pages(warm_up=0, pages=4000)
    short = rig.touch_pages(warm_up=0, pages=2)
    assert (long.value[1], short.value[1]) == (4000, 2)
    assert short.enabled_ns < long.enabled_ns
    assert short.running_ns == short.enabled_ns


def test_the_events_are_those_of_the_man_page(rig: Rig) -> None:
    asked = list(rig.lib.rig_asked)
    assert [(event.type, event.config) for event in asked] == EVENTS
    assert {event.read_format for event in asked} == {READ_FORMAT}


def test_a_group_of_this_threads_user_code_waits_for_its_leader(rig: Rig) -> None:
    leader, *members = rig.lib.rig_asked
    assert (leader.leader, leader.disabled) == (-1, 1)
    assert {(event.leader, event.disabled) for event in members} == {(rig.counters.fd[0], 0)}
    assert {(e.pid, e.cpu, e.user_only, e.flags) for e in rig.lib.rig_asked} == {
        (0, -1, 1, PERF_FLAG_FD_CLOEXEC)
    }


def test_members_that_are_refused_are_left_out(rig: Rig) -> None:
    rig.lib.pb_counters_deinit(rig.counters)
    rig.lib.rig_errno[3], rig.lib.rig_errno[4] = errno.EINVAL, errno.ENOENT
    assert rig.init() == 0
    assert rig.opened() == ["cycles", "instructions", "branch_misses", "dtlb_misses"]
    counts = rig.touch_pages(warm_up=0, pages=9)
    assert (counts.valid, counts.value[1]) == (0b100111, 9)


def test_a_group_that_does_not_fit_sheds_members(rig: Rig) -> None:
    rig.lib.pb_counters_deinit(rig.counters)
    rig.lib.rig_fits = 4
    assert rig.init() == 0
    assert rig.opened() == ["cycles", "instructions", "branch_misses", "l1d_misses"]
    assert rig.touch_pages(warm_up=0, pages=9).value[1] == 9


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EACCES])
def test_without_cycles_there_is_nothing(rig: Rig, number: int) -> None:
    rig.lib.pb_counters_deinit(rig.counters)
    rig.lib.rig_errno[0] = number
    assert rig.init() == -number
    assert rig.opened() == []


def test_cycles_that_never_run_are_busy(rig: Rig) -> None:
    rig.lib.pb_counters_deinit(rig.counters)
    before = len(list(Path("/proc/self/fd").iterdir()))
    rig.lib.rig_fits = 0
    assert rig.init() == -errno.EBUSY
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_batch_of_nothing_is_an_error(rig: Rig) -> None:
    sample = rig.ffi.new("struct pb_sample *", {"run": rig.lib.rig_touch})
    counts = rig.ffi.new("struct pb_counts *")
    assert rig.lib.pb_counters_run(rig.counters, sample, counts) == -errno.EINVAL
