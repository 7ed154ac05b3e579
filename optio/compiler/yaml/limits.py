"""Reject alias bombs: a short file whose aliases expand to a huge or endless value costs no more than its own text."""

from collections.abc import Iterator

import yaml

MAX_EXPANDED = 100_000
MAX_RATIO = 100
# For all texts together; a file of the maximum size without aliases stays far below.
MAX_CHARACTERS = 4 << 20
_SMALL_DOCUMENT = 1_000


class DocumentTooLarge(Exception):
    """The expanded document is too large or has no end; `node` is the place to show."""

    def __init__(self, code: str, message: str, node: yaml.Node, hint: str) -> None:
        self.code, self.message, self.node, self.hint = code, message, node, hint
        super().__init__(message)


def refuse_bombs(root: yaml.Node) -> None:
    """Raise DocumentTooLarge if the expanded tree is too large. Sizes are memoised per node, and an alias is the same node as
    its anchor, so each anchor is measured once."""
    sizes: dict[int, int] = {}
    lengths: dict[int, int] = {}
    open_nodes: set[int] = set()
    stack: list[tuple[yaml.Node, bool]] = [(root, False)]
    while stack:
        node, is_measured = stack.pop()
        if is_measured:
            sizes[id(node)] = 1 + sum(sizes[id(child)] for child in children(node))
            own_length = len(node.value) if isinstance(node, yaml.ScalarNode) else 0
            lengths[id(node)] = own_length + sum(lengths[id(child)] for child in children(node))
            open_nodes.discard(id(node))
        elif id(node) in open_nodes:
            raise DocumentTooLarge("OPT009", "an alias inside its own anchor", node, "write the value out")
        elif id(node) not in sizes:
            open_nodes.add(id(node))
            stack.append((node, True))
            stack.extend((child, False) for child in children(node))
    expanded = sizes[id(root)]
    if expanded > MAX_EXPANDED or (expanded > _SMALL_DOCUMENT and expanded > MAX_RATIO * len(sizes)):
        raise DocumentTooLarge(
            "OPT008", f"aliases expand to {expanded:,} values", _largest(root, sizes), "write the values out"
        )
    length = lengths[id(root)]
    if length > MAX_CHARACTERS:
        message = f"aliases expand to {length:,} characters, more than {MAX_CHARACTERS:,}"
        raise DocumentTooLarge("OPT008", message, _largest(root, lengths), "repeat less of it, or a shorter text")


def _largest(node: yaml.Node, sizes: dict[int, int]) -> yaml.Node:
    """Return the node that holds most of the size: down from the root while one child is the greater part."""
    while True:
        child = max(children(node), key=lambda child_node: sizes[id(child_node)], default=node)
        if 2 * sizes[id(child)] <= sizes[id(node)]:
            return node
        node = child


def children(node: yaml.Node) -> Iterator[yaml.Node]:
    """Yield the keys and values of a mapping, or the items of a list."""
    if isinstance(node, yaml.SequenceNode):
        yield from node.value
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield key
            yield value
