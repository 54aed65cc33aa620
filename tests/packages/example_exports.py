"""Archives of `torch.export` for tests."""

import warnings
from pathlib import Path

import torch
from torch import nn


def archived(module: nn.Module, inputs: tuple, path: Path, **options) -> Path:
    """A module as `torch.export.save` writes it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(torch.export.export(module.eval(), inputs, **options), path)
    return path
