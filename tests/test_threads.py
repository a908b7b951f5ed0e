"""torch's threads rest soon, unless a user has said how they are to wait."""

import os

import pytest

from segmentation.threads import rest_soon


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({}, "30000"),
        ({"GOMP_SPINCOUNT": "7"}, "7"),
        ({"OMP_WAIT_POLICY": "active"}, None),
    ],
    ids=str,
)
def test_threads_rest_unless_told_otherwise(
    given: dict[str, str], found: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "environ", dict(given))
    rest_soon()
    assert os.environ.get("GOMP_SPINCOUNT") == found
