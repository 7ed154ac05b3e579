"""Trees to damage: the corpus with its mistakes, the examples, the golden cases and the catalogue's examples."""

import random
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from optio.compiler.rules.codes import RULES
from tests.corpus.corpus import clean_files, companions, mistakes
from tests.examples_of_rules import example_files
from tests.fuzz.mutations import damaged

CASES = Path(__file__).parents[1] / "cases"
EXAMPLES = Path(__file__).parents[2] / "examples"
POLICY = b"type: policy\nceilings: {budgetUsd: '5.00', maxTurns: 50}\nrequire: [description]\nallow: {models: [sonnet, opus]}\n"
LARGEST = 20_000


@lru_cache(maxsize=1)
def trees() -> tuple[Mapping[str, bytes], ...]:
    """Small trees; the one file of each that is no companion comes first."""
    clean = clean_files()
    shared = companions(clean)
    found: list[Mapping[str, bytes]] = []
    for path, data in clean.items():
        if path.endswith((".yaml", ".yml")):
            near = {p: d for p, d in shared.items() if p.split("/")[0] == path.split("/")[0]}
            found.append({path: data, **near})
    for case in sorted(p for p in CASES.glob("*/*") if p.suffix != ".out"):
        inside = [case] if case.is_file() else sorted(p for p in case.rglob("*") if p.is_file())
        base = case.parent if case.is_file() else case
        files = {p.relative_to(base).as_posix(): p.read_bytes() for p in inside}
        if sum(map(len, files.values())) < LARGEST:
            found.append(files)
    found += [{path: each.files[path] for path in {*each.changed, each.path}} for each in mistakes()]
    found += [{path.name: path.read_bytes()} for path in sorted(EXAMPLES.glob("*/tasks.d/*.yaml"))]
    for rule in RULES.values():
        found += [example_files(text) for text in (rule.wrong, rule.right) if text and len(text) < LARGEST]
    return tuple(found)


def drawn(rng: random.Random) -> dict[str, bytes]:
    """A tree with one of its files damaged, sometimes beside a policy, which may be damaged too."""
    files = dict(rng.choice(trees()))
    if rng.random() < 0.1:
        files["_policy.yaml"] = POLICY
    if rng.random() < 0.05:
        files["_defaults.yaml"] = b"maxTurns: 9\nenvironment: {env: {A: b}}\n"
    path = rng.choice(sorted(files))
    files[path] = damaged(rng, files[path])
    return files
