"""Rules OPT205 to OPT226: the JSON Schema of the parameters."""

from optio.compiler.rules.rule import ERROR, INFO, PROVES, SUSPECTS, WARNING, Rule

_HEAD = "promptTemplate: Say {{A}}\nparamsSchema:\n  type: object\n  additionalProperties: false\n"


def _with(properties: str, *more: str) -> str:
    return _HEAD + f"  properties:\n    A: {properties}\n" + "".join(f"  {line}\n" for line in (more or ("required: [A]",)))


def _hook(path: str) -> str:
    config = f"{{path: notes, secret: {{name: S}}, paramMapping: {{A: {path}}}}}"
    return f"triggers:\n  - type: webhook\n    config: {config}\n"


RULES = (
    Rule(
        "OPT205", "invalid-schema", ERROR, PROVES, "`paramsSchema` or `result.schema` is not a valid JSON Schema",
        "A keyword with a wrong value would silently check nothing.",
        _with("{type: strin}"),
        _with("{type: string}"),
    ),
    Rule(
        "OPT206", "schema-root", ERROR, PROVES, "the root of `paramsSchema` is not an object",
        "Parameters are a mapping from names to values.",
        "paramsSchema:\n  type: array\n",
        "paramsSchema:\n  type: object\n  properties: {}\n  additionalProperties: false\n",
    ),
    Rule(
        "OPT207", "bad-default", ERROR, PROVES, "a default that does not fit its own schema",
        "Defaults are filled in before the parameters are validated, so every run without a value would be refused.",
        _with('{type: integer, default: "3"}', "minProperties: 0"),
        _with("{type: integer, default: 3}", "minProperties: 0"),
    ),
    Rule(
        "OPT208", "bad-enum-value", ERROR, PROVES, "a member of `enum`, `const` or `examples` that does not fit its own schema",
        "No caller could ever give that value.",
        _with("{type: string, enum: [low, high, 3]}"),
        _with('{type: string, enum: [low, high, "3"]}'),
    ),
    Rule(
        "OPT209", "required-undeclared", ERROR, PROVES, "`required` names a key that is not declared",
        "Callers cannot give such a parameter, so no run could start. A result that should have it needs a declaration, too.",
        _with("{type: string}", "required: [A, B]"),
        _with("{type: string}", "required: [A]"),
    ),
    Rule(
        "OPT210", "required-with-default", WARNING, PROVES, "a parameter is required and has a default",
        "Defaults are filled in first, so a parameter with a default is never missing and `required` has no effect.",
        _with("{type: string, default: all}"),
        _with("{type: string, default: all}", "required: []"),
    ),
    Rule(
        "OPT211", "unsatisfiable", ERROR, PROVES, "a schema that no value fits",
        "Every run would be refused or fail.",
        _with("{type: integer, minimum: 10, maximum: 1}"),
        _with("{type: integer, minimum: 1, maximum: 10}"),
    ),
    Rule(
        "OPT212", "bad-regex", ERROR, PROVES, "a pattern that cannot be used",
        "Patterns run in linear time (RE2 syntax): no look-around, no back-references, and no long patterns of many classes "
        "(`\\w`).",
        _with('{type: string, pattern: "^(?=a)b"}'),
        _with('{type: string, pattern: "^ab"}'),
    ),
    Rule(
        "OPT214", "remote-ref", ERROR, PROVES, "a `$ref` that leads out of the schema, to nothing, or in a circle",
        "Optio fetches nothing when it compiles or runs a task, and a reference to itself checks nothing.",
        _with('{$ref: "https://example.com/name.json"}'),
        _with('{$ref: "#/$defs/name"}', "required: [A]", "$defs: {name: {type: string}}"),
    ),
    Rule(
        "OPT215", "open-schema", INFO, SUSPECTS, "`additionalProperties` is not false",
        "A misspelt parameter is accepted silently, and the intended one keeps its default.",
        "promptTemplate: Say {{A}}\n"
        "paramsSchema:\n  type: object\n  properties: {A: {type: string}}\n  required: [A]\n",
        _with("{type: string}"),
        strict=WARNING,
    ),
    Rule(
        "OPT216", "unbounded-string", INFO, SUSPECTS, "a webhook fills a text of unlimited length",
        "The sender decides how long the prompt is, and how much it costs.",
        _with("{type: string}") + _hook("$.repository.name"),
        _with("{type: string, maxLength: 200}") + _hook("$.repository.name"),
        strict=WARNING,
    ),
    Rule(
        "OPT220", "secret-param", INFO, SUSPECTS, "a secret is a parameter of the prompt",
        "Prompts are stored, shown and sent to a model. Secrets of the environment are not.",
        _HEAD.replace("{{A}}", "{{API_TOKEN}}") + "  properties:\n    API_TOKEN: {type: string}\n  required: [API_TOKEN]\n",
        _HEAD.replace("{{A}}", "{{USED}}") + "  properties:\n    USED: {type: string}\n  required: [USED]\n",
        strict=WARNING,
    ),
    Rule(
        "OPT221", "unknown-keyword", WARNING, PROVES, "a keyword or a format without effect",
        "Unknown keywords and those of another type are ignored, so values that they should forbid are allowed.",
        _with("{type: string, maxLenght: 20}"),
        _with("{type: string, maxLength: 20, x-shown-as: Name}"),
    ),
    Rule(
        "OPT233", "open-pattern", INFO, SUSPECTS, "a pattern for a whole text without `^` and `$`",
        "A pattern may match any part of a text: `[a-z]+` is found in every text that has a letter.",
        _with("{type: string, maxLength: 40, pattern: '[a-z]+/[a-z]+'}"),
        _with("{type: string, maxLength: 40, pattern: '^[a-z]+/[a-z]+$'}"),
    ),
    Rule(
        "OPT222", "format-not-asserted", INFO, PROVES, "a format that is not checked",
        "Any text is accepted. Optio checks dates, times, e-mail addresses, hosts, IP addresses, URIs, UUIDs, JSON pointers "
        "and patterns.",
        _with("{type: string, format: phone}"),
        _with('{type: string, format: phone, pattern: "^[+][0-9]+$"}'),
    ),
    Rule(
        "OPT223", "non-text-param", INFO, SUSPECTS, "a list or a mapping in the prompt",
        "The agent reads the value as JSON on one line.",
        _with("{type: array}"),
        _with("{type: string}"),
    ),
    Rule(
        "OPT224", "nested-placeholder", WARNING, PROVES, "a placeholder in a default",
        "Placeholders are filled in once, so that no value can ask for another one.",
        _with('{type: string, default: "about {{B}}"}', "required: []"),
        _with("{type: string, default: about B}", "required: []"),
    ),
    Rule(
        "OPT225", "duplicate-enum", WARNING, PROVES, "a duplicate value or name in a list",
        "The second entry has no effect, and another value may have been meant.",
        _with("{enum: [a, b, a]}"),
        _with("{enum: [a, b, c]}"),
    ),
    Rule(
        "OPT226", "shadowed-name", ERROR, PROVES, "two parameters that differ only by case, or a reserved name",
        "People and other programs confuse such names.",
        "promptTemplate: Say {{A}} {{a}}\nparamsSchema:\n  type: object\n  additionalProperties: false\n"
        "  properties:\n    A: {type: string}\n    a: {type: string}\n  required: [A, a]\n",
        _with("{type: string}"),
    ),
)  # fmt: skip
