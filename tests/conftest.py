"""Settings every test file shares: one thread, and Hypothesis without clocks or chance."""

import os
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import settings

settings.register_profile(
    "minittt",
    deadline=None,
    derandomize=True,
    print_blob=False,
    max_examples=int(os.environ.get("MINITTT_EXAMPLES", "30")),
)
settings.load_profile("minittt")
torch.set_num_threads(1)
sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))  # scripts that tests call


@pytest.fixture(autouse=True)
def _denormal_numbers():
    """Training flushes them to zero for speed, for the whole process; Hypothesis draws them on purpose."""
    yield
    torch.set_flush_denormal(False)
