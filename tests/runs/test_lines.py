"""Lines: any bytes, cut anywhere, come out as the same lines."""

from hypothesis import given
from hypothesis import strategies as st

from optio.runs.lines import MAX_LINE_BYTES, LineSplitter

pieces = st.lists(st.binary(max_size=40).map(lambda data: data.replace(b"\x00", b"\n")), max_size=20)


@given(pieces)
def test_however_the_bytes_arrive_the_lines_are_the_same(parts: list[bytes]) -> None:
    lines, whole = LineSplitter(), b"".join(parts)

    found = [line for part in parts for line in lines.feed(part)]
    rest = list(lines.rest())

    expected = whole.split(b"\n")
    last = [expected.pop()]
    assert [line for line, _ in found] == expected
    assert [line for line, _ in rest] == [line for line in last if line]
    assert [whole[:end] for _, end in found] == [whole[: len(b"\n".join(expected[: n + 1])) + 1] for n in range(len(expected))]
    assert (lines.read, lines.done) == (len(whole), len(whole))


@given(pieces)
def test_blocks_hold_the_same_bytes_as_lines(parts: list[bytes]) -> None:
    lines, whole = LineSplitter(), b"".join(parts)

    blocks = [block for part in parts for block, _ in lines.block(part)]
    rest = [line for line, _ in lines.rest()]

    assert b"".join(block + b"\n" for block in blocks) + b"".join(rest) == whole


def test_a_line_without_end_is_cut_and_what_is_cut_is_counted() -> None:
    lines = LineSplitter()

    for _ in range(10):
        assert list(lines.feed(b"x" * (1 << 20))) == []
    ((line, end),) = lines.feed(b"y\n")

    assert line == b"x" * MAX_LINE_BYTES + f"... [{6 * (1 << 20) + 1:,} bytes cut]".encode()
    assert end == lines.done == 10 * (1 << 20) + 2
