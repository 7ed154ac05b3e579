"""Compiling again what changed gives what compiling everything gives."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from optio.compiler.incremental import IncrementalCompiler
from optio.compiler.pipeline import Compilation, compile_tree
from optio.compiler.source_tree import MemoryTree

GOOD = "name: {name}\nagentRuntime: claude-code\npromptTemplate: Say {word}\n"
FROM_FILE = "name: {name}\nagentRuntime: claude-code\npromptFile: prompts/{word}.md\n"
HOOK = GOOD + "triggers:\n  - type: webhook\n    config: {{path: {word}, unsigned: true}}\n"
TEXTS = [GOOD, FROM_FILE, HOOK, "extends: base.yaml\n" + GOOD, "", "name: [\n", "name: {name}\n", "- {word}\n"]
FOR_OTHERS = ["_defaults.yaml", "c/_defaults.yaml", "_policy.yaml", "base.yaml"]
NAMES, WORDS = ["One", "Two", "Three"], ["red", "blue"]


def told(compilation: Compilation) -> object:
    tasks = compilation.registry.tasks.values()
    found = [d.to_json() for d in compilation.diagnostics]
    return [t.to_json() for t in tasks], found, compilation.broken, compilation.files


class CountingTree(MemoryTree):
    """A tree that notes which files were read."""

    def __init__(self, files: dict[str, str]) -> None:
        super().__init__(files)
        self.reads: list[str] = []

    def read(self, path: str) -> bytes:
        if not path.startswith(("_defaults", "_policy")):  # whether they are there is looked up once for a directory
            self.reads.append(path)
        return super().read(path)


class Edits(RuleBasedStateMachine):
    """Files come, change and go; signs are true, missing, or as they were."""

    def __init__(self) -> None:
        super().__init__()
        self.files: dict[str, str] = {}
        self.versions: dict[str, int] = {}
        self.compiler = IncrementalCompiler()
        self.told, self.pedantic = IncrementalCompiler(), IncrementalCompiler(pedantic=True)
        self.changed: set[str] = set()
        self.clock = 0

    def _touch(self, path: str) -> None:
        self.changed.add(path)
        self.clock += 1
        self.versions[path] = self.clock

    @rule(
        path=st.sampled_from(["a.yaml", "b.yaml", "c/d.yaml"]),
        text=st.sampled_from(TEXTS),
        name=st.sampled_from(NAMES),
        word=st.sampled_from(WORDS),
    )
    def write(self, path: str, text: str, name: str, word: str) -> None:
        self.files[path] = text.format(name=name, word=word)
        self._touch(path)

    @rule(
        path=st.sampled_from([f"{d}prompts/{word}.md" for d in ("", "c/") for word in WORDS]),
        text=st.sampled_from(["x", "y {{A}}", " "]),
    )
    def write_prompt(self, path: str, text: str) -> None:
        self.files[path] = text
        self._touch(path)

    @rule(
        path=st.sampled_from(FOR_OTHERS),
        turns=st.integers(1, 3),
    )
    def write_for_others(self, path: str, turns: int) -> None:
        kind = {"base.yaml": "type: template\n", "_policy.yaml": "type: policy\nceilings:\n  "}.get(path, "")
        self.files[path] = f"{kind}maxTurns: {turns}\n"
        self._touch(path)

    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        if self.files:
            path = data.draw(st.sampled_from(sorted(self.files)))
            del self.files[path]
            del self.versions[path]
            self.changed.add(path)

    @rule(data=st.data())
    def touch(self, data: st.DataObject) -> None:
        if self.files:
            self._touch(data.draw(st.sampled_from(sorted(self.files))))

    @invariant()
    def equal_to_a_whole_compilation(self) -> None:
        signs = {path: (version,) for path, version in self.versions.items() if version % 3}
        tree = MemoryTree(self.files)

        compilation = self.compiler.compile(tree, signs)

        assert told(compilation) == told(compile_tree(tree))
        assert told(self.told.compile(tree, changed_paths=self.changed)) == told(compilation)
        assert told(self.pedantic.compile(tree, signs)) == told(compile_tree(tree, pedantic=True))
        self.changed.clear()
        served = {task.origin.path for task in compilation.registry.tasks.values()}
        assert set(self.compiler.unserved(compilation)) | served == {p for p in self.files if p.endswith(".yaml")} - {
            *FOR_OTHERS
        }


TestEdits = Edits.TestCase
TestEdits.settings = settings(max_examples=60, stateful_step_count=12, deadline=None)


def test_only_what_is_named_as_changed_is_looked_at() -> None:
    files = {"a.yaml": GOOD.format(name="One", word="x"), "b.yaml": GOOD.format(name="Two", word="x")}
    compiler = IncrementalCompiler()
    compiler.compile(CountingTree(files))
    again, changed = CountingTree(files), CountingTree({**files, "a.yaml": files["a.yaml"] + "maxTurns: 3\n"})

    compiler.compile(again, changed_paths=[])
    compilation = compiler.compile(changed, changed_paths=["a.yaml"])

    assert again.reads == []
    assert set(changed.reads) == {"a.yaml"}
    assert compilation.registry.task("one").spec.max_turns == 3


def test_a_file_with_the_sign_that_it_had_is_not_read_again() -> None:
    files = {
        "a.yaml": GOOD.format(name="One", word="x"),
        "b.yaml": FROM_FILE.format(name="Two", word="red"),
        "prompts/red.md": "x",
    }
    compiler = IncrementalCompiler()
    signs = dict.fromkeys(files, (1,))
    compiler.compile(CountingTree(files), signs)
    again, changed, unsure = CountingTree(files), CountingTree(files), CountingTree(files)

    compiler.compile(again, signs)
    compiler.compile(changed, {**signs, "prompts/red.md": (2,)})
    compiler.compile(unsure, {"b.yaml": (1,), "prompts/red.md": (2,)})

    assert (again.reads, changed.reads, unsure.reads) == ([], ["prompts/red.md"], ["a.yaml"])


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("name: Weekly Report\ncommand: [\n", "weekly-report"),
        ("id: weekly\nname: [\n", "weekly"),
        ("name: 'Weekly'\n\tx: 1\n", "weekly"),
        ("name: Weekly\n", "weekly"),
        ("maxTurns: 3\n", None),
        ("", None),
    ],
)
def test_a_broken_file_is_known_by_the_id_that_it_seems_to_mean(text: str, meant: str | None) -> None:
    compiler = IncrementalCompiler()
    compilation = compiler.compile(MemoryTree({"a.yaml": text}))

    assert compiler.unserved(compilation) == {"a.yaml": meant}


def test_all_files_that_were_read_are_known_with_their_bytes() -> None:
    compiler = IncrementalCompiler()
    compiler.compile(MemoryTree({"a.yaml": FROM_FILE.format(name="One", word="red")}))

    expected = {"a.yaml": FROM_FILE.format(name="One", word="red").encode(), "prompts/red.md": None}
    known = compiler.known()
    assert expected.items() <= known.items()
    assert not any(known[path] for path in known.keys() - expected.keys())  # where the prompt might have been
