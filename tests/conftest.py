"""What every test stands on."""

import os

# Before any test imports torch: the suite runs one process a core.
os.environ.setdefault("OMP_NUM_THREADS", "1")
