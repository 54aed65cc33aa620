"""The modules of this folder import each other by name: as a script does, so do the tests."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
