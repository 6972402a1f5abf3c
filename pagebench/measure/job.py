"""What a worker is told, and what it says when it fails: one JSON line each, typed."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from pagebench.plan.groups import Plan
from pagebench.results.lines import Natural


class Job(msgspec.Struct, frozen=True):
    """The ``groups`` of a plan that one process samples.

    ``movable``: "variant probe" to whether its loop may be copied.
    """

    plan: Plan
    process: Natural
    groups: tuple[Natural, ...]
    movable: Mapping[str, bool]


class Failure(msgspec.Struct, frozen=True, tag_field="kind", tag="error"):
    """Why a worker stopped, in one line."""

    message: str
