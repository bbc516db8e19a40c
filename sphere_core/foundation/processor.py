"""Which number formats a processor multiplies by itself; the others are emulated, many times slower than float32."""

from pathlib import Path

__all__ = ["emulates", "has_gpu_driver", "processor_flags"]

_CPUINFO = Path("/proc/cpuinfo")
_DRIVERS = (Path("/proc/driver/nvidia"), Path("/dev/kfd"))
# Any one of these sets is enough for the fast kernels of torch (oneDNN's requirements, and Arm's own formats).
_NEEDS: dict[str, tuple[frozenset[str], ...]] = {
    "bfloat16": (
        frozenset({"avx512bw", "avx512vl", "avx512dq"}),
        frozenset({"avx_ne_convert"}),
        frozenset({"bf16"}),
    ),
    "float16": (
        frozenset({"avx512_fp16"}),
        frozenset({"avx_ne_convert"}),
        frozenset({"asimdhp"}),
    ),
}


def processor_flags(cpuinfo: Path = _CPUINFO) -> frozenset[str]:
    """Return the instruction sets that Linux names of the first processor; empty if nothing does."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return frozenset()
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() in {"flags", "Features"}:
            return frozenset(value.split())
    return frozenset()


def emulates(dtype: str, flags: frozenset[str]) -> bool:
    """Whether a processor with these flags has no instructions for products in `dtype`; False without any flags."""
    needs = _NEEDS.get(dtype, ())
    return bool(flags and needs) and not any(need <= flags for need in needs)


def has_gpu_driver() -> bool:
    """Whether the driver of an NVIDIA or AMD GPU is loaded on this machine; torch is not imported to ask it."""
    return any(path.exists() for path in _DRIVERS)
