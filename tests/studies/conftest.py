"""Makes simulation.py, which the tests of this folder share, a module that they can import."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
