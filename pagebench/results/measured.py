"""A run to be set against others: its cells by what they mean."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from pagebench.results.change import Side
from pagebench.results.comparison import GroupSamples, by_group
from pagebench.results.lines import ProbeCode
from pagebench.results.result_file import Run
from pagebench.results.statistics import number
from pagebench.results.summarise import summarise
from pagebench.results.summary import Row, Summary
from pagebench.units import format_size

# What is as noisy as each other: see Plan.noise_class().
NoiseClass = tuple[object, ...]


class Place(NamedTuple):
    """What a cell means: by this it is found in another run."""

    probe: str
    pattern: str
    order: int
    footprint_bytes: int
    contender: str

    def __str__(self) -> str:
        size = format_size(self.footprint_bytes)
        contender = self.contender.removesuffix("@plain")
        return f"{self.probe}, {self.pattern}, order {self.order}, {size}, {contender}"


@dataclass(frozen=True)
class Measured:
    """A run to be compared, under a name."""

    name: str
    run: Run

    @cached_property
    def summary(self) -> Summary:
        """Raises PagebenchError where no group is finished."""
        return summarise(self.run)

    @cached_property
    def rows(self) -> dict[Place, Row]:
        """The cells of the summary."""
        return {Place(*row.place, row.contender): row for row in self.summary.cells}

    @cached_property
    def at(self) -> dict[Place, tuple[GroupSamples, int]]:
        """Where each cell's samples are: a group, and the position in it."""
        found = {}
        for samples in by_group(self.run).values():
            group = samples.group
            if group.purpose == "control":
                continue
            for position, cell in enumerate(group.cells):
                if cell.role == "contender":
                    axes = group.probe, group.pattern, group.order, group.footprint_bytes
                    found[Place(*axes, str(cell.contender))] = samples, position
        return found

    def code(self, variant: str, probe: str) -> ProbeCode:
        """A variant's loop."""
        return self.run.header.variants[variant].probes[probe]

    def noise_class(self, place: Place) -> NoiseClass:
        """What is as noisy as a cell."""
        return self.run.plan.noise_class(place.probe, place.footprint_bytes)

    @cached_property
    def aa_ns(self) -> dict[NoiseClass, float]:
        """The largest |A/A| of each noise class."""
        return self._largest(self.summary.noise)

    @cached_property
    def null_ns(self) -> dict[NoiseClass, float]:
        """The largest null between encodings of each noise class."""
        return self._largest(self.summary.null)

    def _largest(self, rows: Iterable[Row]) -> dict[NoiseClass, float]:
        largest: dict[NoiseClass, float] = {}
        for row in rows:
            if row.difference.ns.estimate is not None:
                key = self.run.plan.noise_class(row.probe, row.footprint_bytes)
                largest[key] = max(largest.get(key, 0.0), abs(row.difference.ns.estimate))
        return largest

    @cached_property
    def side(self) -> Side:
        """What is said of the run."""
        header, finished, control = self.run.header, self.summary.finished, self.summary.control
        return Side(
            name=self.name,
            created=header.created,
            command=header.command,
            tool=header.tool,
            machine=header.machine,
            compiler=header.compiler,
            core_ghz=number(self.run.median_ghz),
            processes=finished.processes,
            complete=finished.samplings >= finished.planned,
            trusted=None if control is None else control.trusted,
        )
