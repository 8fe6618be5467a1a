"""What holds for all tests of the guard."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # modules that several tests share; importlib mode adds no folders
