"""Files spoiled at random, each known by its seed, and what comes of reading them."""

import resource
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from random import Random
from typing import Any

import torch

from segmentation.errors import UserError


@contextmanager
def little_memory() -> Iterator[None]:
    """Fails where the block takes more than a GiB."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < before + 2**20  # KiB


def outcomes(read: Callable[[Random], object], seeds: int) -> set[str]:
    """What came of the seeds: each is read, or refused by one line, and takes little memory."""
    found = set()
    with little_memory():
        for seed in range(seeds):
            try:
                read(Random(seed))
                found.add("read")
            except UserError as error:
                assert str(error).isprintable() and len(str(error)) < 700, f"seed {seed}"
                found.add("refused")
            except BaseException as error:
                raise AssertionError(f"seed {seed}: {error!r}") from error
    return found


WORDS = (
    *(
        b"null",
        b"[]",
        b"{}",
        b"&a",
        b"*a",
        b"!!python/name:os.system ",
        b"-1",
        b"1e999",
        b"2001-99-99",
        b"\xff",
    ),
    *(
        b"0" * 5000,
        b"x" * 5000,
        b"\x1b[31m",
        b"\0",
        b"\n",
        b":",
        b",",
        b'"',
        b"[" * 2000,
        b"nan",
        b"99999999999",
    ),
)


def spoiled(content: bytes, random: Random, words: Sequence[bytes] = ()) -> bytes:
    """One to four wrong places: a byte changed, some cut out, repeated or put in."""
    for _ in range(random.randint(1, 4)):
        at, length = random.randrange(len(content) or 1), random.randint(1, 20)
        put = [bytes([random.randrange(256)]), b"", content[at : at + length] * 2, *words]
        content = content[:at] + random.choice(put) + content[at + random.choice([1, length]) :]
    return content


NUMBERS = (0, 1, 2, 3, 7, 255, 256, 20_000, 32_768, 65_535, 2**24, 2**31 - 1, 2**31, 2**32 - 1)


def with_wrong_numbers(content: bytes, random: Random, header: int = 200) -> bytes:
    """One or two whole numbers, mostly near an end of the file, where the headers are."""
    changed = bytearray(content)
    for _ in range(random.randint(1, 2)):
        at = random.choice(
            [random.randrange(header), -random.randrange(8, header), random.randrange(len(content))]
        )
        kind = random.choice("BHI")
        number = random.choice(NUMBERS) % 256 ** struct.calcsize(kind)
        struct.pack_into(
            random.choice("<>") + kind, changed, max(min(at % len(content), len(content) - 4), 0), number
        )
    return bytes(changed)


def wrong(content: bytes, random: Random) -> bytes:
    """Either; the checksums of a PNG are right in half of the cases."""
    content = random.choice([spoiled, with_wrong_numbers])(content, random)
    return content if random.random() < 0.5 else with_checksums(content)


def with_checksums(content: bytes) -> bytes:
    """A PNG whose chunks have the sums that a reader expects; other files as they are."""
    if not content.startswith(b"\x89PNG"):
        return content
    parts, at = [content[:8]], 8
    while at + 8 <= len(content):
        end = at + 8 + int.from_bytes(content[at : at + 4])
        parts += [content[at:end], struct.pack(">I", zlib.crc32(content[at + 4 : end]))]
        at = end + 4
    return b"".join(parts)


def nested(depth: int) -> list[Any]:
    found: list[Any] = []
    for _ in range(depth):
        found = [found]
    return found


def endless() -> list[Any]:
    found: list[Any] = []
    found.append(found)
    return found


HOSTILE: list[Any] = [
    *(None, True, -1, 0, 7, 2**31, 2**63, 10**5000, 0.5, 1e308, float("nan"), float("inf"), 1j, b"x"),
    *("", "none", "x" * 20_000, "\x1b[31m\n", "../../x", [], {}, (), {1, 2}, [None], {"": {}}, [[1, 2], [3]]),
    *(nested(200), endless(), {2**70: "x"}, ["x"] * 20_000),
    *(
        torch.tensor(2),
        torch.tensor(float("nan")),
        torch.zeros(0),
        torch.zeros(2, 3),
        torch.ones(3, dtype=torch.cfloat),
    ),
    *(torch.zeros(1).expand(2**31), torch.zeros(9).to_sparse(), torch.zeros(3, device="meta")),
]


def with_wrong_part(value: Any, random: Random) -> Any:
    """A copy of nested plain data in which one part is missing, misplaced or another thing."""
    if not isinstance(value, dict | list | tuple) or not value or random.random() < 0.1:
        return random.choice(HOSTILE)
    copy: Any = dict(value) if isinstance(value, dict) else list(value)
    key = random.choice(list(copy) if isinstance(copy, dict) else range(len(copy)))
    if random.random() < 0.1:
        del copy[key]
    elif random.random() < 0.05 and isinstance(copy, dict):
        copy[random.choice(["x", 1, None, "\n", "x" * 20_000])] = copy.pop(key)
    else:
        copy[key] = with_wrong_part(copy[key], random)
    return type(value)(copy) if isinstance(value, tuple) else copy
