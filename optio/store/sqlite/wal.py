"""Damage in an SQLite write-ahead log (WAL): a pure analysis of its bytes, for `sqlite_store` and `examine`.

SQLite's own recovery stops at the first frame that fails its checksum and silently drops everything behind it. That is right
after a crash in the middle of a write, and silent loss after damage. Frames are chained: each checksum starts from the one
stored before it (https://www.sqlite.org/fileformat2.html#walformat). So the frames behind a damaged one still prove that they
were written after it, and a commit among them was flushed after the commit before it. Example: of frames 1-40 with a commit in
every fourth, frame 13 fails, and 14-40 are chained: 7 commits would be lost. After a crash nothing chained lies behind the
first bad frame, except for the one transaction that was being flushed when the power failed.

The `-shm` file of a killed process tells more: its header names the last committed frame.
"""

import struct
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

HEADER_BYTES = 32
FRAME_HEADER_BYTES = 24
_MAGIC = {0x377F0682: "little", 0x377F0683: "big"}
_PAGE_SIZES = frozenset(1 << power for power in range(9, 17))
# For a log with a damaged header: SQLite's default, which Optio never changes.
_PAGE_BYTES = 4096
_WORD = 0xFFFFFFFF
# Frames are summed side by side, one in each 64-bit lane of a long integer; this many fit the processor's cache.
_LANES = 512


@dataclass(frozen=True, slots=True)
class WalReport:
    """The contents of a log. Frames count from 1; `good` is the last frame that recovery keeps, 0 for none."""

    frames: int
    good: int
    damaged_at: int | None = None
    """The first frame that fails where committed frames follow; 0 for the log's header; None for a sound log."""
    lost_commits: int = 0
    lost_pages: int = 0
    backfilled: int = 0
    """Frames that the database file has already, as far as the `-shm` file says."""


@dataclass(frozen=True, slots=True)
class Salvage:
    """The newest state that a damaged log still proves: the position in the log of the last version of each page, and the
    number of pages of the database. `lost_commits` came later."""

    pages: dict[int, int]
    size: int
    page_size: int
    lost_commits: int


@dataclass(frozen=True, slots=True)
class _WalIndex:
    """The header of a `-shm` file."""

    last: int
    salts: bytes
    backfilled: int


@dataclass(frozen=True, slots=True)
class _WalFrames:
    """A log's frames up to the last one of its generation."""

    count: int
    order: str
    page_size: int
    sound: bool
    """Whether the log's own header is whole."""
    salts: bytes
    headers: list[bytes]
    stored: list[tuple[int, int]]
    expected: list[tuple[int, int]]
    """What the checksum of each frame would be, from its bytes and the checksum that is stored before it."""
    index: _WalIndex | None

    def is_current(self, place: int) -> bool:
        return self.headers[place][8:16] == self.salts

    def is_commit(self, place: int) -> bool:
        return self.headers[place][4:8] != bytes(4)

    def is_linked(self, place: int) -> bool:
        follows = place == 0 or self.is_current(place - 1)
        return follows and self.is_current(place) and self.stored[place] == self.expected[place]

    def end(self) -> int:
        """Return the number of frames up to the last commit that is linked."""
        places = reversed(range(len(self.headers)))
        return next((place + 1 for place in places if self.is_commit(place) and self.is_linked(place)), 0)


def inspect_wal(wal: bytes, shm: bytes = b"") -> WalReport:
    """Report what `wal` holds and whether committed frames in it are damaged. `shm` is the `-shm` file as it was left, or
    empty."""
    frames = _read(wal, shm)
    if frames is None:
        return WalReport(0, 0)
    last, index = len(frames.headers), frames.index
    bad = next((place for place in range(last) if not frames.is_linked(place)), last) if frames.sound else 0
    good = max((place + 1 for place in range(bad) if frames.is_commit(place)), default=0)
    end = max(bad, frames.end())
    # The next transaction is written only when the one before is flushed: from a bad frame on, two commits of which the last is
    # linked are no torn write.
    damaged = sum(frames.is_commit(place) and frames.is_current(place) for place in range(bad, end)) > 1
    if index is not None and index.last > good:
        damaged, end = True, max(end, index.last)
    backfilled = 0 if index is None else index.backfilled
    if not damaged:
        return WalReport(frames.count, good, backfilled=backfilled)
    lost_frames = [place for place in range(good, min(end, last)) if frames.is_current(place)]
    return WalReport(
        frames=frames.count,
        good=good,
        damaged_at=bad + 1 if frames.sound else 0,
        lost_commits=max(1, sum(frames.is_commit(place) for place in lost_frames)),
        lost_pages=max(1, len({frames.headers[place][:4] for place in lost_frames})),
        backfilled=backfilled,
    )


def salvage_wal(wal: bytes, shm: bytes = b"") -> Salvage | None:
    """Return what a damaged log still proves behind the damage, or None if a page is missing there.

    A damaged frame does no harm if a later transaction wrote its page again, as is so with most pages of a busy database. Where
    its page number may be what is damaged, that must hold for every page that it may have been.
    """
    frames = _read(wal, shm)
    if frames is None or (end := frames.end()) == 0:
        return None
    if frames.index is not None and frames.index.backfilled > end:
        return None  # the database file is newer
    size = int.from_bytes(frames.headers[end - 1][4:8], "big")
    largest_page = max(int.from_bytes(frames.headers[place][4:8], "big") for place in range(end) if frames.is_linked(place))
    pages: dict[int, int] = {}
    missing: dict[int, int] = {}
    for place in range(end):
        page = int.from_bytes(frames.headers[place][:4], "big")
        if frames.stored[place] == frames.expected[place]:
            pages[page] = place
        elif frames.is_current(place):
            missing.update(dict.fromkeys((page, *_other_page(frames, place, largest_page)), place))
        else:
            return None  # its page number may be anything
    if any(pages.get(page, -1) < place for page, place in missing.items() if page <= size):
        return None
    step = FRAME_HEADER_BYTES + frames.page_size
    starts = {page: HEADER_BYTES + place * step + FRAME_HEADER_BYTES for page, place in pages.items() if page <= size}
    last = len(frames.headers) if frames.index is None else min(frames.index.last, len(frames.headers))
    later = sum(frames.is_commit(place) and frames.is_current(place) for place in range(end, last))
    return Salvage(starts, size, frames.page_size, max(later, 1) if last > end else 0)


def _other_page(frames: _WalFrames, place: int, largest_page: int) -> Iterator[int]:
    """Yield the page of a frame that fails, assuming that the first eight bytes of its header are damaged and nothing else: the
    checksum tells what they were. `most` is the largest number of pages that the database had."""
    stored, expected_sum = frames.stored[place], frames.expected[place]
    # Undo the effect of the page's bytes on an error in the header.
    a, b, c, d = _power(frames.page_size // 8, (2, _WORD, _WORD, 1))
    s0, s1 = stored[0] - expected_sum[0], stored[1] - expected_sum[1]
    first = (a * s0 + b * s1) & _WORD
    second = (c * s0 + d * s1 - first) & _WORD
    words = f"{'<' if frames.order == 'little' else '>'}2I"
    salt, two = struct.unpack(words, frames.headers[place][:8])
    page, size = struct.unpack(">2I", struct.pack(words, (salt + first) & _WORD, (two + second) & _WORD))
    if 1 <= page <= largest_page and size <= largest_page:
        yield page


def _read(wal: bytes, shm: bytes) -> _WalFrames | None:
    """Split a log into its frames; None when there are none."""
    if len(wal) < HEADER_BYTES:
        return None
    magic, _, page_size = struct.unpack_from(">3I", wal)
    order = _MAGIC.get(magic, "little")
    sound = magic in _MAGIC and page_size in _PAGE_SIZES
    sound = sound and _sum(wal[:24], order, (0, 0)) == struct.unpack_from(">2I", wal, 24)
    if not sound:
        page_size = _PAGE_BYTES
    step = FRAME_HEADER_BYTES + page_size
    count = (len(wal) - HEADER_BYTES) // step
    headers = [wal[at : at + FRAME_HEADER_BYTES] for at in range(HEADER_BYTES, HEADER_BYTES + count * step, step)]
    index, salts = _index(shm), wal[16:24]
    if not sound:
        # A damaged header does not tell the log's generation; its first two frames do.
        first = (one[8:16] for one, two in pairwise(headers) if one[8:16] == two[8:16] != bytes(8))
        salts = index.salts if index is not None else next(first, bytes(8))
    if index is not None and index.salts != salts:
        index = None  # of an older generation
    # Frames behind the last one of this generation are leftovers.
    headers = headers[: max((place + 1 for place in range(count) if headers[place][8:16] == salts), default=0)]
    if not headers or salts == bytes(8):
        return None
    stored = [struct.unpack(">2I", header[16:]) for header in headers]
    before = [struct.unpack_from(">2I", wal, 24), *stored]
    # The checksum is linear: a frame's sum is its own part plus a linear function of the start value.
    a, b, c, d = _power(1 + page_size // 8, (1, 1, 1, 2))
    own_frames = [
        sums
        for at in range(0, len(headers), _LANES)
        for sums in _frame_sums(wal, order, page_size, at, min(_LANES, len(headers) - at))
    ]
    expected_sums = [
        ((a * s0 + b * s1 + own0) & _WORD, (c * s0 + d * s1 + own1) & _WORD)
        for (s0, s1), (own0, own1) in zip(before, own_frames, strict=False)
    ]
    return _WalFrames(count, order, page_size, sound, salts, headers, stored, expected_sums, index)


def _frame_sums(wal: bytes, order: str, page_size: int, first: int, count: int) -> list[tuple[int, int]]:
    """Return the checksums of `count` frames, each started from zero."""
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
        column_number = int.from_bytes(pairs[column::stride].tobytes(), "little")
        s0 = (s0 + s1 + (column_number & low)) & low
        s1 = (s1 + s0 + ((column_number >> 32) & low)) & low
    sums = (struct.unpack(f"<{count}Q", value.to_bytes(count * 8, "little")) for value in (s0, s1))
    return list(zip(*sums, strict=True))


def _power(pairs: int, base: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    """Return what so many pairs of words make of the checksum they started from; `base` is what one pair does, or undoes."""
    result = (1, 0, 0, 1)
    while pairs:
        if pairs & 1:
            result = _times(result, base)
        base = _times(base, base)
        pairs >>= 1
    return result


def _times(matrix: tuple[int, int, int, int], factor: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    a, b, c, d = matrix
    e, f, g, h = factor
    return (a * e + b * g) & _WORD, (a * f + b * h) & _WORD, (c * e + d * g) & _WORD, (c * f + d * h) & _WORD


def _sum(data: bytes, order: str, start: tuple[int, int]) -> tuple[int, int]:
    s0, s1 = start
    words = struct.unpack(f"{'<' if order == 'little' else '>'}{len(data) // 4}I", data)
    for first, second in zip(words[::2], words[1::2], strict=True):
        s0 = (s0 + first + s1) & _WORD
        s1 = (s1 + second + s0) & _WORD
    return s0, s1


def _index(shm: bytes) -> _WalIndex | None:
    """Read the header that every commit writes twice, in the machine's own byte order; None unless it is intact."""
    if len(shm) < 136 or shm[:48] != shm[48:96] or shm[12] != 1:
        return None
    order = "little" if struct.unpack_from("<I", shm)[0] == 3_007_000 else "big"
    sign = "<" if order == "little" else ">"
    if _sum(shm[:40], order, (0, 0)) != struct.unpack_from(f"{sign}2I", shm, 40):
        return None
    return _WalIndex(struct.unpack_from(f"{sign}I", shm, 16)[0], shm[32:40], struct.unpack_from(f"{sign}I", shm, 96)[0])
