"""What this machine is: processor, card, driver and versions."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import torch

from benchmarks.device.report import Row

UNKNOWN = "unknown"


def describe() -> Row:
    """Names and versions; of the card only where CUDA is available."""
    told: Row = {
        "date": str(datetime.now(tz=UTC).date()),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "CPU": _cpu(),
        "processors": os.cpu_count(),
        "torch threads": torch.get_num_threads(),
        "CPU capability": torch.backends.cpu.get_cpu_capability(),
    }
    return told | (_card() if torch.cuda.is_available() else {"card": "none"})


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or UNKNOWN
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), UNKNOWN)


def _card() -> Row:
    properties = torch.cuda.get_device_properties(0)
    return {
        "card": properties.name,
        "card memory, GiB": round(properties.total_memory / 2**30, 1),
        "compute capability": f"{properties.major}.{properties.minor}",
        "driver": _driver(),
        "CUDA": torch.version.cuda,
        "cuDNN": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
        "cuDNN may use TF32": torch.backends.cudnn.allow_tf32,
        "products may use TF32": torch.backends.cuda.matmul.allow_tf32,
    }


def _driver() -> str:
    program = shutil.which("nvidia-smi")
    if program is None:
        return UNKNOWN
    asked = [program, "--query-gpu=driver_version", "--format=csv,noheader", "--id=0"]
    try:
        ran = subprocess.run(asked, capture_output=True, text=True, timeout=20, check=False)  # noqa: S603 - our own
    except (OSError, subprocess.TimeoutExpired):
        return UNKNOWN
    return ran.stdout.strip() or UNKNOWN
