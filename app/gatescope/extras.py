"""Which extra brings a package that is not installed."""

from __future__ import annotations

EXTRAS = {
    "cli": ("rich", "typer", "yaml"),
    "onnx": ("google", "onnx", "onnxruntime"),
    "keras": ("h5py",),
    "plot": ("matplotlib",),
    "progress": ("tqdm",),
    "server": (
        "fastapi",
        "fastapi_offline",
        "prometheus_client",
        "pydantic_settings",
        "redis",
        "simdjson",
        "starlette",
        "structlog",
        "threadpoolctl",
        "uvicorn",
        "watchfiles",
    ),
    "tables": ("pandas", "pyarrow"),
    "torch": ("orjson", "pydantic", "safetensors", "torch"),
    "xarray": ("h5netcdf", "h5py", "xarray"),
    "zarr": ("zarr",),
}
"""The packages of each extra in `pyproject.toml`, by the names that they are imported under."""


def missing(error: ModuleNotFoundError) -> str | None:
    """What is missing and how to install it, in one line; None for what no extra brings."""
    package = (error.name or "").partition(".")[0]
    for extra, packages in EXTRAS.items():
        if package in packages:
            return f"this needs {package}, which is not installed: pip install 'gatescope[{extra}]'"
    return None
