"""Which formats a processor emulates, read from the flags that Linux names."""

from pathlib import Path

import pytest

from sphere_core.foundation.processor import emulates, processor_flags

ZEN_3 = "fpu vme sse sse2 fma avx f16c avx2 vaes"
SKYLAKE_SERVER = f"{ZEN_3} avx512f avx512dq avx512bw avx512vl"
SAPPHIRE_RAPIDS = f"{SKYLAKE_SERVER} avx512_bf16 avx512_fp16 amx_bf16"
SIERRA_FOREST = f"{ZEN_3} avx_vnni avx_ne_convert"
NEOVERSE_N1 = "fp asimd fphp asimdhp"
NEOVERSE_V1 = f"{NEOVERSE_N1} sve bf16"


@pytest.mark.parametrize(
    ("flags", "bfloat16", "float16"),
    [
        (ZEN_3, True, True),
        (SKYLAKE_SERVER, False, True),
        (SAPPHIRE_RAPIDS, False, False),
        (SIERRA_FOREST, False, False),
        (NEOVERSE_N1, True, False),
        (NEOVERSE_V1, False, False),
        ("", False, False),
    ],
)
@pytest.mark.parametrize("name", ["flags", "Features"])
def test_formats_without_instructions_are_emulated(
    tmp_path: Path, flags: str, name: str, bfloat16: bool, float16: bool
) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor\t: 0\n{name}\t\t: {flags}\nbugs\t\t:\n\nprocessor\t: 1\n{name}\t\t: none\n")
    found = processor_flags(cpuinfo)
    assert found == frozenset(flags.split())
    assert emulates("bfloat16", found) is bfloat16
    assert emulates("float16", found) is float16
    assert not emulates("float32", found)


def test_nothing_is_known_where_no_file_names_the_flags(tmp_path: Path) -> None:
    assert processor_flags(tmp_path / "absent") == frozenset()
    other = tmp_path / "cpuinfo"
    other.write_text("processor : 0\nmodel name : something\n")
    assert processor_flags(other) == frozenset()
