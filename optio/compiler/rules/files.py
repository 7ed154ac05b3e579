"""OPT001 to OPT024: the file and its YAML."""

from optio.compiler.rules.rule import ERROR, INFO, WARNING, Rule

RULES = (
    Rule(
        "OPT001", "yaml-syntax", ERROR, "the file is no YAML",
        "A file that does not parse has no meaning at all, so no other rule is run on it.",
        "description: Fix: the build\n",
        'description: "Fix: the build"\n',
    ),
    Rule(
        "OPT002", "encoding", ERROR, "the file is not UTF-8",
        "Any other encoding reads differently from one machine to the next.",
        "description: caf\udce9\n",
        "description: caf\u00e9\n",
    ),
    Rule(
        "OPT003", "bom", INFO, "a byte order mark begins the file",
        "It is no part of UTF-8 as others read it: scripts see three odd bytes before the first key.",
        "\ufeffdescription: one\n",
        "description: one\n",
    ),
    Rule(
        "OPT004", "duplicate-key", ERROR, "a key stands twice in one mapping",
        "Most readers keep the last value and say nothing, so a limit set twice is a limit nobody knows.",
        "maxTurns: 20\nmaxTurns: 200\n",
        "maxTurns: 20\n",
    ),
    Rule(
        "OPT005", "indentation-char", ERROR, "a tab or another blank is used to indent",
        "YAML is indented with spaces; a tab or a no-break space looks the same and is not.",
        "environment:\n\timage: ghcr.io/acme/agent:1\n",
        "environment:\n  image: ghcr.io/acme/agent:1\n",
    ),
    Rule(
        "OPT006", "implicit-type", ERROR, "an unquoted text that YAML readers take for different things",
        "Readers of YAML 1.1 see `false`, 8, a date or a number in base 60 where readers of YAML 1.2 see something else.",
        "environment:\n  env: {COUNTRY: NO}\n",
        "environment:\n  env: {COUNTRY: 'NO'}\n",
    ),
    Rule(
        "OPT007", "yaml-tag", ERROR, "an explicit YAML tag",
        "Task files are data: nothing in them is executed or included, and values have the type they are written with.",
        "model: !include model.txt\n",
        "model: sonnet\n",
    ),
    Rule(
        "OPT008", "alias-expansion", ERROR, "aliases expand to too many values, or too long ones",
        "A few short lines of aliases can stand for gigabytes.",
        "a: &a [x, x, x, x, x, x, x, x, x, x]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a, *a, *a]\n"
        "c: &c [*b, *b, *b, *b, *b, *b, *b, *b, *b, *b]\nd: &d [*c, *c, *c, *c, *c, *c, *c, *c, *c, *c]\n"
        "e: [*d, *d, *d, *d, *d, *d, *d, *d, *d, *d]\n",
        "environment:\n  env: {A: &region eu-west-1, B: *region}\n",
    ),
    Rule(
        "OPT009", "recursive-alias", ERROR, "an alias inside its own anchor",
        "Such a value contains itself and has no end.",
        "paramsSchema: &self\n  properties: {A: *self}\n",
        "paramsSchema:\n  type: object\n  properties: {}\n  additionalProperties: false\n",
    ),
    Rule(
        "OPT010", "undefined-alias", ERROR, "an alias without its anchor",
        "An alias repeats a value that an anchor named earlier in the same file.",
        "environment:\n  env: {A: &region eu-west-1, B: *regoin}\n",
        "environment:\n  env: {A: &region eu-west-1, B: *region}\n",
    ),
    Rule(
        "OPT011", "unused-anchor", WARNING, "an anchor that no alias uses",
        "Whoever reads it looks for the place where its value is repeated.",
        "environment:\n  env: {A: &region eu-west-1, B: eu-west-1}\n",
        "environment:\n  env: {A: &region eu-west-1, B: *region}\n",
    ),
    Rule(
        "OPT012", "merge-key", WARNING, "a merged value is overridden",
        "Of two values for one key the nearest wins, and readers of YAML do not all agree which one that is.",
        "environment:\n  env:\n    <<: {LEVEL: info}\n    LEVEL: debug\n",
        "environment:\n  env:\n    <<: {LEVEL: info}\n    COLOUR: never\n",
    ),
    Rule(
        "OPT013", "empty-document", ERROR, "more than one document in a file",
        "One file holds one task, so that a path names a task.",
        "---\nname: One\nagentRuntime: claude-code\npromptTemplate: Say one\n"
        "---\nname: Two\nagentRuntime: claude-code\npromptTemplate: Say two\n",
        "---\nname: One\nagentRuntime: claude-code\npromptTemplate: Say one\n",
    ),
    Rule(
        "OPT014", "size-depth", ERROR, "the file is too large or nested too deeply",
        "Limits (1 MiB, 64 levels, 10,000 values) keep every check fast.",
        "paramsSchema: " + "{a: " * 70 + "1" + "}" * 70 + "\n",
        "paramsSchema: {type: object, properties: {}, additionalProperties: false}\n",
    ),
    Rule(
        "OPT015", "control-char", ERROR, "a control character",
        "It cannot be seen, and agents, shells and databases trip over it.",
        "description: Say \x07 hello\n",
        "description: Say hello\n",
    ),
    Rule(
        "OPT016", "invisible-char", WARNING, "a character that nobody sees",
        "A reviewer reads another text than the agent does: such characters hide words, or turn their order round.",
        "promptTemplate: Say \u202eolleh\n",
        "promptTemplate: Say hello\n",
        strict=ERROR,
    ),
    Rule(
        "OPT017", "key-type", ERROR, "a key that is no text",
        "Keys are text everywhere else: in JSON, in the API, in parameters.",
        "environment:\n  env: {8080: open}\n",
        "environment:\n  env: {PORT_8080: open}\n",
    ),
    Rule(
        "OPT018", "empty-file", WARNING, "the file holds no task",
        "An empty file is usually a save that went wrong.",
        "---\n# to be written\n",
        "---\nname: Written\nagentRuntime: claude-code\npromptTemplate: Say hello\n",
    ),
    Rule(
        "OPT019", "line-ends", INFO, "line ends other than LF",
        "Editors and git disagree about them. The prompt that an agent gets has LF in any case, and so has the task's digest.",
        "description: one\r\n",
        "description: one\n",
    ),
    Rule(
        "OPT020", "confusable-key", ERROR, "a key with letters that only look like the right ones",
        "A Cyrillic letter in a known key makes an unknown one that no eye can tell from it.",
        "m\u0430xTurns: 20\n",
        "maxTurns: 20\n",
    ),
    Rule(
        "OPT021", "comment-truncation", WARNING, "a comment cuts a value short",
        "Behind a blank, `#` begins a comment, also where a number, a channel or a colour was meant.",
        "description: Scans for #1 of the list\n",
        "description: 'Scans for #1 of the list'\n",
    ),
    Rule(
        "OPT022", "conflict-marker", ERROR, "a merge that was not finished",
        "Both sides of a conflict are in the file, and neither is what somebody decided.",
        "<<<<<<< HEAD\nmaxTurns: 20\n=======\nmaxTurns: 30\n>>>>>>> branch\n",
        "maxTurns: 30\n",
    ),
    Rule(
        "OPT023", "tab-in-prompt-indent", INFO, "tabs and spaces indent one text",
        "An agent counts a tab as it likes; lists and code that line up in the editor need not do so in the prompt.",
        "promptTemplate: |\n  Say these:\n    - hello\n  \t- goodbye\n",
        "promptTemplate: |\n  Say these:\n    - hello\n    - goodbye\n",
    ),
    Rule(
        "OPT024", "folded-prompt", WARNING, "a list or code in a prompt whose lines are joined",
        "`>` makes one line of several: an agent reads the items of a list, or lines of code, behind each other.",
        "promptTemplate: >\n  Look at these:\n  - hello\n  - goodbye\n",
        "promptTemplate: |\n  Look at these:\n  - hello\n  - goodbye\n",
    ),
)  # fmt: skip
