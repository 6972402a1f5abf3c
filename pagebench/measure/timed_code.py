"""What a result file says of the code that is timed: each variant's origin, each loop's form and bytes."""

from __future__ import annotations

from collections.abc import Mapping

from pagebench import core
from pagebench.code import form, prediction
from pagebench.plan.groups import Plan
from pagebench.results.lines import Prediction, ProbeCode, VariantCode
from pagebench.variants import registry


def timed_code(plan: Plan) -> dict[str, VariantCode]:
    """Every variant and probe that is timed.  Raises PagebenchError for code of no known form."""
    known = registry.known(plan.struct_page_bytes, plan.objects)
    return {name: _variant_code(known[name], plan) for name in plan.variant_names}


def predicted(plan: Plan) -> Prediction:
    """What every loop should take.  Raises PagebenchError where llvm-mca is missing or fails."""
    predictor = prediction.find()
    known = registry.known(plan.struct_page_bytes, plan.objects)
    probes = dict.fromkeys(group.probe for group in plan.groups)
    cycles = {
        name: {probe: predictor.cycles(form.analyse(known[name].probes[probe])) for probe in probes}
        for name in plan.variant_names
    }
    return Prediction(f"llvm-mca {predictor.version}", predictor.cpu, cycles)


def movable_loops(codes: Mapping[str, VariantCode]) -> dict[str, bool]:
    """Whether the loop of a "variant probe" may be copied to another address."""
    return {
        f"{name} {probe}": not code.immovable
        for name, variant in codes.items()
        for probe, code in variant.probes.items()
    }


def _variant_code(variant: core.Variant, plan: Plan) -> VariantCode:
    loaded = next((one for one in plan.objects if one.name == variant.name), None)
    return VariantCode(
        commit=variant.commit,
        subject=variant.subject,
        version=variant.version,
        struct_page_bytes=variant.struct_page_bytes,
        source=loaded.source if loaded and not loaded.built_in else "",
        cflags=loaded.cflags if loaded and not loaded.built_in else "",
        probes={
            name: _probe_code(variant.probes[name])
            for name in dict.fromkeys(group.probe for group in plan.groups)
        },
    )


def _probe_code(probe: core.Probe) -> ProbeCode:
    listing = form.analyse(probe)
    return ProbeCode(
        form=listing.form,
        variant_instructions=listing.variant_instructions,
        variant_bytes=listing.variant_bytes,
        immovable=listing.immovable,
        code=probe.code.hex(),
    )
