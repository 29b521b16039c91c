"""What every test shares: figures without a screen, property tests and random numbers that repeat."""
import os
import signal
import sys

import pytest
from hypothesis import HealthCheck, settings

from anytext_lib.publishing.execute import threads_for

os.environ.setdefault("MPLBACKEND", "agg")
if "PYTEST_XDIST_WORKER_COUNT" in os.environ:  # tests that run side by side share the cores; torch reads this once
    os.environ["OMP_NUM_THREADS"] = threads_for(int(os.environ["PYTEST_XDIST_WORKER_COUNT"]))

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a job in the background; the commands that tests start are not
    signal.signal(signal.SIGINT, signal.default_int_handler)

# No deadline, because a shared machine is slow at times. The default profile draws the same examples at every run;
# HYPOTHESIS_PROFILE=thorough looks for new ones.
settings.register_profile("default", deadline=None, max_examples=30, derandomize=True, print_blob=True,
                          suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("thorough", deadline=None, max_examples=500, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


@pytest.fixture(autouse=True)
def seeded():
    """Start every test from the same random state of torch, where torch is loaded at all."""
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture(scope="session")
def recognizer():
    """PP-OCRv3 with its real weights."""
    from anytext_lib.ocr import PPOCRv3Recognizer

    return PPOCRv3Recognizer.from_pretrained()


@pytest.fixture(scope="session")
def alphas_cumprod():
    """The schedule of Stable Diffusion 1.5, (1000,) float32."""
    from anytext_lib.course.lab import sd_alphas_cumprod

    return sd_alphas_cumprod()
