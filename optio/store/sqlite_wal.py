"""Find damage in an SQLite write-ahead log (WAL): a pure function over its bytes, for `sqlite.py` and `sqlite_examine.py`.

SQLite's own recovery stops at the first frame that fails its checksum and drops everything behind it, without a word. That is
right after a crash in the middle of a write, and silent loss after damage. Frames are chained: each checksum starts from the
one stored before it (https://www.sqlite.org/fileformat2.html#walformat). So the frames behind a damaged one still prove that
they were written after it, and a commit among them was flushed after the commit before it. Example: of frames 1-40 with a
commit in every fourth, frame 13 fails, and 14-40 are chained: 7 commits would be lost. After a crash nothing chained lies
behind the first bad frame, but for the one transaction that was being flushed when the power failed.

The `-shm` file of a killed process tells more: its header names the last committed frame.
"""

import struct
from array import array
from dataclasses import dataclass
from itertools import pairwise

HEADER_BYTES = 32
FRAME_HEADER_BYTES = 24
_MAGIC = {0x377F0682: "little", 0x377F0683: "big"}
_PAGE_SIZES = frozenset(1 << power for power in range(9, 17))
_WORD = 0xFFFFFFFF
# Frames are summed side by side, one in each 64-bit lane of a long integer: so many at once fit the processor's cache.
_LANES = 512


@dataclass(frozen=True, slots=True)
class WalReport:
    """What a log holds. Frames count from 1; `good` is the last frame that recovery keeps, 0 for none."""

    frames: int
    good: int
    damaged_at: int | None = None
    """The first frame that fails where committed frames follow; 0 for the log's header; None for a sound log."""
    lost_commits: int = 0
    lost_pages: int = 0
    backfilled: int = 0
    """Frames that the database file has already, as far as the `-shm` file says."""


@dataclass(frozen=True, slots=True)
class _Index:
    """The header of a `-shm` file."""

    last: int
    salts: bytes
    backfilled: int


def inspect_wal(wal: bytes, shm: bytes = b"", *, page_size: int = 4096) -> WalReport:
    """Report what `wal` holds and whether committed frames in it are damaged. `shm` is the `-shm` file as it was left, or
    empty. `page_size` counts where the log's own header is damaged."""
    if len(wal) < HEADER_BYTES:
        return WalReport(0, 0)
    magic, _, size = struct.unpack_from(">3I", wal)
    order = _MAGIC.get(magic, "little")
    sound = magic in _MAGIC and size in _PAGE_SIZES
    sound = sound and _sum(wal[:24], order, (0, 0)) == struct.unpack_from(">2I", wal, 24)
    if sound:
        page_size = size
    step = FRAME_HEADER_BYTES + page_size
    count = (len(wal) - HEADER_BYTES) // step
    if count == 0:
        return WalReport(0, 0)
    headers = [wal[at : at + FRAME_HEADER_BYTES] for at in range(HEADER_BYTES, HEADER_BYTES + count * step, step)]
    index = _index(shm)
    salts = wal[16:24]
    if not sound:
        # A damaged header does not say which generation this is: the first two frames of one do.
        first = (one[8:16] for one, two in pairwise(headers) if one[8:16] == two[8:16] != bytes(8))
        salts = index.salts if index is not None else next(first, bytes(8))
    # Behind the last frame of this generation nothing counts.
    last = max((place + 1 for place in range(count) if headers[place][8:16] == salts), default=0)
    linked = _linked(wal, order, page_size, headers[:last], sound, salts)
    bad = linked.index(False) if False in linked else last
    commits = [headers[place][4:8] != bytes(4) for place in range(last)]
    good = max((place + 1 for place in range(bad) if commits[place]), default=0)
    known = index is not None and index.salts == salts
    backfilled = index.backfilled if index is not None and known else 0
    behind = [place for place in range(bad + 1, last) if linked[place]]
    end = max((place + 1 for place in behind if commits[place]), default=bad)
    # The next transaction is written only when the one before is flushed: from a bad frame on, two commits of which the last is
    # chained are no torn write.
    damaged = sum(commits[place] and headers[place][8:16] == salts for place in range(bad, end)) > 1
    if index is not None and known and index.last > good:
        damaged, end = True, max(end, index.last)
    if not damaged:
        return WalReport(count, good, backfilled=backfilled)
    lost = [headers[place] for place in range(good, min(end, count)) if headers[place][8:16] == salts]
    return WalReport(
        frames=count,
        good=good,
        damaged_at=bad + 1 if sound else 0,
        lost_commits=max(1, sum(header[4:8] != bytes(4) for header in lost)),
        lost_pages=max(1, len({header[:4] for header in lost})),
        backfilled=backfilled,
    )


def _linked(wal: bytes, order: str, page_size: int, headers: list[bytes], sound: bool, salts: bytes) -> list[bool]:
    """Whether each frame is of this generation and its checksum follows from the one that is stored before it."""
    stored = [struct.unpack_from(">2I", header, 16) for header in headers]
    before = [struct.unpack_from(">2I", wal, 24), *stored[:-1]]
    # The checksum is linear: that of a frame is its own part, plus what the pairs of words make of the start.
    a, b, c, d = _power(1 + page_size // 8)
    found: list[bool] = []
    for at in range(0, len(headers), _LANES):
        for own in _own_sums(wal, order, page_size, at, min(_LANES, len(headers) - at)):
            place = len(found)
            s0, s1 = before[place]
            right = ((a * s0 + b * s1 + own[0]) & _WORD, (c * s0 + d * s1 + own[1]) & _WORD) == stored[place]
            whole = headers[place][8:16] == salts and (sound if place == 0 else headers[place - 1][8:16] == salts)
            found.append(right and whole)
    return found


def _own_sums(wal: bytes, order: str, page_size: int, first: int, count: int) -> list[tuple[int, int]]:
    """The checksums of `count` frames, each started from zero."""
    step = FRAME_HEADER_BYTES + page_size
    start = HEADER_BYTES + first * step
    part = wal[start : start + count * step]
    if order == "big":
        words = array("I", part)
        words.byteswap()
        part = words.tobytes()
    pairs = memoryview(part).cast("Q")
    stride = step // 8
    low = int.from_bytes(b"\xff\xff\xff\xff\0\0\0\0" * count, "little")
    s0 = s1 = 0
    # The frame header's first eight bytes count, and the page behind the header.
    for column in (0, *range(FRAME_HEADER_BYTES // 8, stride)):
        both = int.from_bytes(pairs[column::stride].tobytes(), "little")
        s0 = (s0 + s1 + (both & low)) & low
        s1 = (s1 + s0 + ((both >> 32) & low)) & low
    sums = (struct.unpack(f"<{count}Q", value.to_bytes(count * 8, "little")) for value in (s0, s1))
    return list(zip(*sums, strict=True))


def _power(pairs: int) -> tuple[int, int, int, int]:
    """The matrix that so many pairs of words apply to the checksum they started from."""
    result, base = (1, 0, 0, 1), (1, 1, 1, 2)
    while pairs:
        if pairs & 1:
            result = _times(result, base)
        base = _times(base, base)
        pairs >>= 1
    return result


def _times(left: tuple[int, int, int, int], right: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    a, b, c, d = left
    e, f, g, h = right
    return (a * e + b * g) & _WORD, (a * f + b * h) & _WORD, (c * e + d * g) & _WORD, (c * f + d * h) & _WORD


def _sum(data: bytes, order: str, start: tuple[int, int]) -> tuple[int, int]:
    s0, s1 = start
    words = struct.unpack(f"{'<' if order == 'little' else '>'}{len(data) // 4}I", data)
    for first, second in zip(words[::2], words[1::2], strict=True):
        s0 = (s0 + first + s1) & _WORD
        s1 = (s1 + second + s0) & _WORD
    return s0, s1


def _index(shm: bytes) -> _Index | None:
    """Read the header that every commit writes twice, in the machine's own byte order; None unless it is whole."""
    if len(shm) < 136 or shm[:48] != shm[48:96] or shm[12] != 1:
        return None
    order = "little" if struct.unpack_from("<I", shm)[0] == 3_007_000 else "big"
    sign = "<" if order == "little" else ">"
    if _sum(shm[:40], order, (0, 0)) != struct.unpack_from(f"{sign}2I", shm, 40):
        return None
    return _Index(struct.unpack_from(f"{sign}I", shm, 16)[0], shm[32:40], struct.unpack_from(f"{sign}I", shm, 96)[0])
