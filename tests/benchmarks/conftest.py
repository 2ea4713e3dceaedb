"""Makes the benchmarks importable: they live in the repository, beside the package."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))


@pytest.fixture
def root():
    """Return the root of the repository."""
    return ROOT
