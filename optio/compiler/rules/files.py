"""Rules OPT001 to OPT024: the file and its YAML."""

from optio.compiler.rules.rule import ERROR, INFO, PROVES, SUSPECTS, WARNING, Rule

RULES = (
    Rule(
        "OPT001", "yaml-syntax", ERROR, PROVES, "the file is not valid YAML",
        "A file that does not parse has no meaning, so no other rule is checked.",
        "description: Fix: the build\n",
        'description: "Fix: the build"\n',
    ),
    Rule(
        "OPT002", "encoding", ERROR, PROVES, "the file is not UTF-8",
        "Other encodings read differently on different machines.",
        "description: caf\udce9\n",
        "description: caf\u00e9\n",
    ),
    Rule(
        "OPT003", "bom", INFO, PROVES, "a byte order mark begins the file",
        "A byte order mark is not needed in UTF-8, and many programs read it as three characters before the first key.",
        "\ufeffdescription: one\n",
        "description: one\n",
    ),
    Rule(
        "OPT004", "duplicate-key", ERROR, PROVES, "a duplicate key in one mapping",
        "Most YAML readers silently keep the last value, so nobody knows which of two limits applies.",
        "maxTurns: 20\nmaxTurns: 200\n",
        "maxTurns: 20\n",
    ),
    Rule(
        "OPT005", "indentation-char", ERROR, PROVES, "a tab or another blank in the indentation",
        "YAML is indented with spaces. A tab or a no-break space looks the same and is not accepted.",
        "environment:\n\timage: ghcr.io/acme/agent:1\n",
        "environment:\n  image: ghcr.io/acme/agent:1\n",
    ),
    Rule(
        "OPT006", "implicit-type", ERROR, PROVES, "an unquoted text that YAML readers read differently",
        "Optio reads YAML 1.2; YAML 1.1 readers see `false`, 8 or a date. It is a warning where the YAML 1.2 value is valid.",
        "environment:\n  env: {DECIMALS: 010}\n",
        "environment:\n  env: {DECIMALS: '010', COUNTRY: 'NO'}\n",
    ),
    Rule(
        "OPT007", "yaml-tag", ERROR, PROVES, "an explicit YAML tag",
        "Task files are data: nothing in them is executed or included, and every value has the type that it is written with.",
        "model: !include model.txt\n",
        "model: sonnet\n",
    ),
    Rule(
        "OPT008", "alias-expansion", ERROR, PROVES, "aliases expand to too many values, or too long ones",
        "A few short lines of aliases can stand for gigabytes.",
        "a: &a [x, x, x, x, x, x, x, x, x, x]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a, *a, *a]\n"
        "c: &c [*b, *b, *b, *b, *b, *b, *b, *b, *b, *b]\nd: &d [*c, *c, *c, *c, *c, *c, *c, *c, *c, *c]\n"
        "e: [*d, *d, *d, *d, *d, *d, *d, *d, *d, *d]\n",
        "environment:\n  env: {A: &region eu-west-1, B: *region}\n",
    ),
    Rule(
        "OPT009", "recursive-alias", ERROR, PROVES, "an alias inside its own anchor",
        "Such a value contains itself and has no end.",
        "paramsSchema: &self\n  properties: {A: *self}\n",
        "paramsSchema:\n  type: object\n  properties: {}\n  additionalProperties: false\n",
    ),
    Rule(
        "OPT010", "undefined-alias", ERROR, PROVES, "an alias without its anchor",
        "An alias repeats a value that an anchor defines earlier in the same file.",
        "environment:\n  env: {A: &region eu-west-1, B: *regoin}\n",
        "environment:\n  env: {A: &region eu-west-1, B: *region}\n",
    ),
    Rule(
        "OPT011", "unused-anchor", WARNING, PROVES, "an anchor that no alias uses",
        "A reader looks for the place where the anchored value is repeated, and there is none.",
        "environment:\n  env: {A: &region eu-west-1, B: eu-west-1}\n",
        "environment:\n  env: {A: &region eu-west-1, B: *region}\n",
    ),
    Rule(
        "OPT012", "merge-key", WARNING, PROVES, "a merged value is overridden",
        "A key of the mapping itself wins over a merged one wherever it stands. Above `<<`, it looks as if it did not.",
        "environment:\n  env:\n    LEVEL: debug\n    <<: {LEVEL: info}\n",
        "environment:\n  env:\n    <<: {LEVEL: info}\n    LEVEL: debug\n",
    ),
    Rule(
        "OPT013", "empty-document", ERROR, PROVES, "more than one document in a file",
        "Each file holds one task, so that a path identifies a task.",
        "---\nname: One\nagentRuntime: claude-code\npromptTemplate: Say one\n"
        "---\nname: Two\nagentRuntime: claude-code\npromptTemplate: Say two\n",
        "---\nname: One\nagentRuntime: claude-code\npromptTemplate: Say one\n",
    ),
    Rule(
        "OPT014", "size-depth", ERROR, PROVES, "the file is too large or nested too deeply",
        "Limits (1 MiB, 64 levels, 10,000 values) keep every check fast.",
        "paramsSchema: " + "{a: " * 70 + "1" + "}" * 70 + "\n",
        "paramsSchema: {type: object, properties: {}, additionalProperties: false}\n",
    ),
    Rule(
        "OPT015", "control-char", ERROR, PROVES, "a control character",
        "Control characters are invisible, and they confuse agents, shells and databases.",
        "description: Say \x07 hello\n",
        "description: Say hello\n",
    ),
    Rule(
        "OPT016", "invisible-char", WARNING, PROVES, "an invisible character",
        "A reviewer sees another text than the agent reads: such characters hide words or reverse their order.",
        "promptTemplate: Say \u202eolleh\n",
        "promptTemplate: Say hello\n",
        strict=ERROR,
    ),
    Rule(
        "OPT017", "key-type", ERROR, PROVES, "a key that is not a text",
        "Keys are texts in JSON, in the API and in parameters.",
        "environment:\n  env: {8080: open}\n",
        "environment:\n  env: {PORT_8080: open}\n",
    ),
    Rule(
        "OPT018", "empty-file", WARNING, PROVES, "the file holds no task",
        "Nothing is served from it. A save that went wrong leaves such a file, too.",
        "---\n# to be written\n",
        "---\nname: Written\nagentRuntime: claude-code\npromptTemplate: Say hello\n",
    ),
    Rule(
        "OPT019", "line-ends", INFO, PROVES, "line ends other than LF",
        "Editors and git handle them differently. The prompt and the task's digest always use LF.",
        "description: one\r\n",
        "description: one\n",
    ),
    Rule(
        "OPT020", "confusable-key", ERROR, PROVES, "a key with look-alike letters",
        "A Cyrillic letter in a known key makes an unknown key that looks the same.",
        "m\u0430xTurns: 20\n",
        "maxTurns: 20\n",
    ),
    Rule(
        "OPT021", "comment-truncation", INFO, SUSPECTS, "a comment cuts a value short",
        "After a blank, `#` begins a comment, even where a number, a channel or a colour was meant.",
        "description: Scans for #1 of the list\n",
        "description: 'Scans for #1 of the list'\n",
    ),
    Rule(
        "OPT022", "conflict-marker", ERROR, PROVES, "an unfinished merge",
        "The file still contains both sides of a conflict, so it is not clear which one was chosen.",
        "<<<<<<< HEAD\nmaxTurns: 20\n=======\nmaxTurns: 30\n>>>>>>> branch\n",
        "maxTurns: 30\n",
    ),
    Rule(
        "OPT024", "folded-prompt", INFO, SUSPECTS, "a list or code in a prompt with joined lines",
        "`>` joins lines, so the agent reads list items and lines of code as one line.",
        "promptTemplate: >\n  Look at these:\n  - hello\n  - goodbye\n",
        "promptTemplate: |\n  Look at these:\n  - hello\n  - goodbye\n",
    ),
)  # fmt: skip
