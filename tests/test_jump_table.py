"""The static key's branches, switched on and off."""

from __future__ import annotations

import platform
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from kernel_trees import tree_of, with_trees

from pagebench.errors import PagebenchError
from pagebench.variants import compiler
from pagebench.variants.kernel import build
from pagebench.variants.kernel.jump_table import ENTRY, SECTION, Image

pytestmark = [
    pytest.mark.usefixtures("own_cache"),
    pytest.mark.skipif(platform.machine() != "x86_64", reason="the branches are x86-64's"),
]


@dataclass(frozen=True, slots=True)
class Site:
    """The first entry of a jump table: where in the file it and its branch are."""

    entry: int
    code: int


# As the kernel has them: two branches on each of two keys, a nop of two bytes while the key is off.
PLANTED = """
#define BRANCH(key, function) \\
	int function(void) \\
	{ \\
		__asm__ goto("1: .byte 0x66, 0x90\\n" \\
			".pushsection __jump_table, \\"aw\\"\\n" \\
			".balign 8\\n" \\
			".long 1b - ., %l[yes] - .\\n" \\
			".quad " #key " - .\\n" \\
			".popsection\\n" : : : : yes); \\
		return 0; \\
	yes: \\
		return 1; \\
	}

__attribute__((visibility("hidden"), used, aligned(16))) unsigned long
	hugetlb_optimize_vmemmap_key[2], another_key[2];
BRANCH(hugetlb_optimize_vmemmap_key, first)
BRANCH(another_key, second)
BRANCH(hugetlb_optimize_vmemmap_key, third)
BRANCH(another_key, fourth)
"""


class TestJumpTable:
    KEY = "hugetlb_optimize_vmemmap_key"

    @pytest.fixture(
        params=["planted", pytest.param("v6.1", marks=[with_trees, pytest.mark.slow])],
    )
    def image(self, request: pytest.FixtureRequest, tmp_path: Path) -> Image:
        if request.param == "planted":
            source, program = tmp_path / "planted.c", tmp_path / "planted.so"
            source.write_text(PLANTED)
            command = [*compiler.find(), "-O2", "-shared", "-fPIC", "-o", str(program), str(source)]
            subprocess.run(command, check=True)
            return Image.of(program)
        return Image.of(build.build("k", tree_of(request.param))[0].path)

    @pytest.fixture
    def site(self, image: Image) -> Site:
        address = image._elf.get_section_by_name(SECTION)["sh_addr"]
        entry = image._at(address, ENTRY.size)
        code, _, _ = ENTRY.unpack_from(image.content, entry)
        return Site(entry, image._at(address + code, 2))

    def test_on_and_off_again(self, image: Image) -> None:
        before = bytes(image.content)
        branches = image.set_key(self.KEY, on=True)
        assert sum(a != b for a, b in zip(before, image.content, strict=True)) == 2 * branches > 0
        assert image.set_key(self.KEY, on=True) == branches
        assert image.set_key(self.KEY, on=False) == branches
        assert bytes(image.content) == before

    def test_another_keys_branches_stay(self, image: Image, site: Site) -> None:
        branches = image.set_key(self.KEY, on=False)
        key = struct.unpack_from("<q", image.content, site.entry + 8)[0]
        struct.pack_into("<q", image.content, site.entry + 8, key + 16)
        assert image.set_key(self.KEY, on=True) == branches - 1
        assert image.content[site.code : site.code + 2] == b"\x66\x90"

    def test_a_branch_that_is_taken_while_off(self, image: Image, site: Site) -> None:
        key = struct.unpack_from("<q", image.content, site.entry + 8)[0]
        struct.pack_into("<q", image.content, site.entry + 8, key | 1)
        image.set_key(self.KEY, on=False)
        assert image.content[site.code] == 0xEB
        image.set_key(self.KEY, on=True)
        assert image.content[site.code : site.code + 2] == b"\x66\x90"

    @pytest.mark.parametrize(
        "found", [b"\x90\x90", b"\xeb\x7f", b"\x0f\x1f", b"\xe9\x00"], ids=lambda code: code.hex()
    )
    def test_what_is_neither_nop_nor_jump_is_refused(self, image: Image, site: Site, found: bytes) -> None:
        image.content[site.code : site.code + 2] = found
        before = bytes(image.content)
        with pytest.raises(PagebenchError, match="neither a nop nor a jump"):
            image.set_key(self.KEY, on=True)
        assert bytes(image.content) == before

    @pytest.mark.parametrize("away", [1 << 30, 4000], ids=["outside", "too far"])
    def test_a_target_that_no_jump_reaches_is_refused(self, image: Image, site: Site, away: int) -> None:
        struct.pack_into("<i", image.content, site.entry + 4, away if away > 4096 else -away)
        with pytest.raises(PagebenchError, match=r"not patched|no code"):
            image.set_key(self.KEY, on=True)

    def test_no_key_no_branches(self, image: Image) -> None:
        assert image.set_key("some_other_key", on=True) == 0
