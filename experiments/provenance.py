"""What stands beside every stored result: on which machine, with which versions, and when it was measured."""

import datetime
import platform
from typing import Any

import torch

import vaelib


def provenance(device: torch.device | str = "cpu") -> dict[str, Any]:
    """Return threads, device, versions and date; a GPU goes by its name."""
    device = torch.device(device)
    return {
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if device.type == "cuda" else device.type,
        "vaelib": vaelib.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "date": datetime.date.today().isoformat(),
    }
