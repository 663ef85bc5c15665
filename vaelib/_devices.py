"""Which device to compute on, and whether this machine and this build of PyTorch have it."""

import torch

from vaelib._notices import warn


def choose_device(device: str | torch.device = "auto") -> torch.device:
    """Return the device to compute on: for "auto" CUDA where there is one, then Apple's MPS, then the CPU.

    Args:
        device: "auto", or a name such as "cpu", "cuda", "cuda:1", "mps".

    Raises:
        ValueError: for an unknown name, or a device that this machine, or this build of PyTorch, does not have.
    """
    if device == "auto":
        return _best()
    try:
        chosen = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"unknown device {device!r}: choose 'auto', 'cpu', 'cuda', 'cuda:0' or 'mps'") from error
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available.get(chosen.type, True):
        raise ValueError(
            f"no {chosen.type} device is available here: use device='cpu', or 'auto' to take the best there is"
        )
    if chosen.type == "cuda":
        _check_gpu(chosen)
    elif chosen.type not in available:
        try:
            torch.ones((), device=chosen).item()
        except Exception as error:  # each build refuses in its own way; "meta" holds no numbers
            raise ValueError(
                f"nothing can be computed on device {str(chosen)!r} here: use device='cpu', or 'auto' to take the "
                "best there is"
            ) from error
    return chosen


def _best() -> torch.device:
    if torch.cuda.is_available():
        chosen = torch.device("cuda")
        if not (why := _unsupported(torch.cuda.current_device())):
            return chosen
        warn(f"{why} Computing on the CPU.")
        return torch.device("cpu")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def _check_gpu(device: torch.device) -> None:
    count = torch.cuda.device_count()
    if device.index is not None and device.index >= count:
        raise ValueError(
            f"there is no {device}: this machine has {count} CUDA device{'s' if count > 1 else ''}, "
            f"{', '.join(f'cuda:{index}' for index in range(count))}"
        )
    if why := _unsupported(torch.cuda.current_device() if device.index is None else device.index):
        raise ValueError(f"{why} Use device='cpu'.")


def _unsupported(index: int) -> str:
    """Return why this build of PyTorch can't use a GPU, or "" where it can: it has no code that the GPU could run."""
    major, minor = torch.cuda.get_device_capability(index)
    compiled = [arch.partition("_") for arch in torch.cuda.get_arch_list()]
    numbers = [(kind, int(digits.rstrip("af")[:-1]), int(digits.rstrip("af")[-1])) for kind, _, digits in compiled]
    # Machine code runs on later minor versions of its major one, and "compute" code is translated for any later GPU.
    usable = any(
        (kind == "sm" and a == major and b <= minor) or (kind == "compute" and (a, b) <= (major, minor))
        for kind, a, b in numbers
    )
    if usable or not numbers:
        return ""
    have = ", ".join(torch.cuda.get_arch_list())
    name = torch.cuda.get_device_name(index)
    return f"{name} (sm_{major}{minor}) is not among the GPUs that this build of PyTorch has code for ({have})."
