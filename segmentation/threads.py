"""torch's own threads, and others beside them."""

import os

_ROUNDS = "30000"  # a third of a millisecond: longer than the gaps within a step


def rest_soon() -> None:
    """Lets torch's idle threads sleep after a third of a millisecond; to be called before torch is imported.

    GNU's OpenMP else keeps them turning for some three, while the threads that decode the next batch want their
    cores: on two cores that takes half as long again. What a user has set for OpenMP stays.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", _ROUNDS)
