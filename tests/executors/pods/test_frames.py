"""The pod's log, cut anywhere."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from optio.executors.pods.frames import STREAMS, Frames, Piece

MARK = "5f2c"
names = {name: letter for letter, name in STREAMS.items()}
# Output that looks like our own is the worst that an agent can print, but it does not know the mark.
outputs = st.one_of(st.binary(min_size=1, max_size=200), st.sampled_from([b"\n", b"o 0 5\nhello\n", b"5f2d o 0 3\nabc\n"]))
logs = st.lists(st.tuples(st.sampled_from(["stdout", "stderr", "result", "telemetry", "said"]), outputs), max_size=12)


def written(log: Sequence[tuple[str, bytes]]) -> bytes:
    """As the supervisor writes it."""
    at: dict[str, int] = {}
    parts = []
    for stream, data in log:
        offset = 0 if stream == "said" else at.get(stream, 0)
        at[stream] = offset + len(data)
        name = names[stream]
        if b"\r" in data and stream != "said":
            name, data = name.upper(), data.hex(" ", 1).encode() + b"\n"
        parts.append(b"%s %s %d %d\n%s\n" % (MARK.encode(), name, offset, len(data), data))
    return b"".join(parts)


def read(text: bytes, sizes: Sequence[int]) -> list[Piece]:
    frames, pieces, at = Frames(MARK), [], 0
    for size in [*sizes, len(text)]:
        pieces += frames.feed(text[at : at + size])
        at += size
    return pieces


@given(logs, st.lists(st.integers(1, 50), max_size=40))
def test_streams_come_out_byte_for_byte_however_the_log_arrives(log: list[tuple[str, bytes]], sizes: list[int]) -> None:
    pieces = read(written(log), sizes)

    for stream in ("stdout", "stderr", "result", "telemetry"):
        whole = b"".join(data for name, data in log if name == stream)
        got = b""
        for piece in pieces:
            if piece.stream == stream:
                assert piece.offset == len(got)
                got += piece.data
        assert got == whole
    assert [piece.data for piece in pieces if piece.stream == "said"] == [data for name, data in log if name == "said"]


@given(logs, st.integers(0, 300))
def test_a_log_that_begins_in_the_middle_is_understood_from_the_next_frame_on(log: list[tuple[str, bytes]], cut: int) -> None:
    text = written(log)
    rest = text[cut:]
    whole = {stream: b"".join(data for name, data in log if name == stream) for stream in names}

    for piece in read(rest, [7] * (len(rest) // 7)):
        if piece.stream not in ("said", "end"):
            assert whole[piece.stream][piece.offset : piece.offset + len(piece.data)] == piece.data


def test_what_is_no_frame_is_passed_over_in_little_memory() -> None:
    frames = Frames(MARK)

    assert list(frames.feed(b"sh: not found\n" + b"x" * 1_000_000)) == []
    assert list(frames.feed(b"\n5f2c s 0 5\nready\n")) == [Piece("said", 0, b"ready")]


@given(logs, st.lists(st.integers(1, 50), max_size=40), st.integers(0, 40), st.integers(1, 9))
def test_a_log_that_lacks_lines_in_its_middle_yields_nothing_that_is_not_so(
    log: list[tuple[str, bytes]], sizes: list[int], first: int, count: int
) -> None:
    # Frames of one length could not be told apart.
    log = [(name, data.replace(b"\n", b" ").ljust(200 + n, b".")) for n, (name, data) in enumerate(log)]
    lines = [line + b"\n" for line in written(log).split(b"\n")[:-1]]
    whole = {stream: b"".join(data for name, data in log if name == stream) for stream in names}

    for piece in read(b"".join(lines[:first] + lines[first + count :]), sizes):
        if piece.stream not in ("said", "end"):
            assert whole[piece.stream][piece.offset : piece.offset + len(piece.data)] == piece.data


def test_a_frame_that_is_cut_by_the_next_one_is_passed_over_as_soon_as_that_comes() -> None:
    frames = Frames(MARK)

    assert list(frames.feed(b"5f2c o 0 200000\nabc\n5f2c o 200000 3\ndef\n")) == [Piece("stdout", 200000, b"def")]


def test_output_that_its_writer_could_not_finish_is_there_as_far_as_it_goes() -> None:
    frames = Frames(MARK)

    assert list(frames.feed(b"5f2c o 0 3\nabc\n5f2c o 3 200000\ndef")) == [Piece("stdout", 0, b"abc")]
    assert list(frames.rest()) == [Piece("stdout", 3, b"def")]
