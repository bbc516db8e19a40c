"""Devices by name. torch is imported where a device is looked for, so that a driver of other processes needs none."""

from typing import TYPE_CHECKING

from sphere_core.foundation.errors import InputError

if TYPE_CHECKING:
    import torch

__all__ = ["SPLIT", "pick_device"]

# The device name that spreads a model over every accelerator the process sees.
SPLIT = "split"


def pick_device(name: str) -> "torch.device | str":
    """Return a torch device by name; `auto` is the accelerator this process sees, or else the CPU.

    `split`, which spreads a model over all accelerators of the process, is for `load_model` and comes back as it is.
    Raises InputError for a name that torch does not know, and for a device that this process does not see.
    """
    import torch

    if name == SPLIT:
        return name
    if name != "auto":
        return _device(name)
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return accelerator if accelerator is not None else torch.device("cpu")


def _device(name: str) -> "torch.device":
    import torch

    try:
        device = torch.device(name)
        # Some names are known to torch but not to this build of it: only use shows that.
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError, ImportError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise InputError(
            f"there is no device '{name}' here ({reason[:160]})",
            where="device",
            remedy="give cpu, cuda, cuda:0 or another that torch sees here, or auto",
        ) from error
    if device.type == "meta":
        raise InputError("a model on the device 'meta' has no weights", where="device", remedy="give cpu, cuda or auto")
    return device
