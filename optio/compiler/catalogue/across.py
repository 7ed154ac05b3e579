"""OPT701 and OPT706: the tree as a whole."""

from optio.compiler.rule import ERROR, Rule

RULES = (
    Rule(
        "OPT701", "duplicate-name", ERROR, "two tasks with one id",
        "Runs, URLs and logs find a task by its id; the first file in path order keeps it.",
        "# file: a.yaml\nname: Weekly Report\n# file: b.yaml\nname: weekly report\n",
        "# file: a.yaml\nname: Weekly Report\n# file: b.yaml\nname: Daily Report\n",
    ),
    Rule(
        "OPT706", "symlink-escape", ERROR, "a file that cannot be read safely",
        "Only regular files below the task directory are read: no link that leads out, no device, no pipe.",
        "",
        "",
    ),
)  # fmt: skip
