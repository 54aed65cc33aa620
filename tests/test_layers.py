"""Imports go down only."""

import subprocess
import sys
from pathlib import Path


def test_imports_go_down_only():
    lint = Path(sys.executable).with_name("lint-imports")
    result = subprocess.run([lint, "--no-cache"], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout
