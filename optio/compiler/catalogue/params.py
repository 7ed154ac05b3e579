"""OPT205 to OPT226: the parameters' JSON Schema."""

from optio.compiler.rule import ERROR, WARNING, Rule

_HEAD = "promptTemplate: Say {{A}}\nparamsSchema:\n  type: object\n  additionalProperties: false\n"


def _with(properties: str, *more: str) -> str:
    return _HEAD + f"  properties:\n    A: {properties}\n" + "".join(f"  {line}\n" for line in (more or ("required: [A]",)))


RULES = (
    Rule(
        "OPT205", "invalid-schema", ERROR, "`paramsSchema` is no JSON Schema",
        "A keyword with a wrong value would be a check that is not made.",
        _with("{type: strin}"),
        _with("{type: string}"),
    ),
    Rule(
        "OPT206", "schema-root", ERROR, "the root of `paramsSchema` is no object",
        "Parameters are a mapping from names to values.",
        "paramsSchema:\n  type: array\n",
        "paramsSchema:\n  type: object\n  properties: {}\n  additionalProperties: false\n",
    ),
    Rule(
        "OPT207", "bad-default", ERROR, "a default that its own schema refuses",
        "Defaults are filled in before the parameters are validated, so every run without a value would be refused.",
        _with('{type: integer, default: "3"}', "minProperties: 0"),
        _with("{type: integer, default: 3}", "minProperties: 0"),
    ),
    Rule(
        "OPT208", "bad-enum-value", ERROR, "a member of `enum`, `const` or `examples` that its own schema refuses",
        "Nobody can ever give that value.",
        _with("{type: string, enum: [low, high, 3]}"),
        _with('{type: string, enum: [low, high, "3"]}'),
    ),
    Rule(
        "OPT209", "required-undeclared", ERROR, "`required` names a parameter that is not declared",
        "It can never be given, so no run could start.",
        _with("{type: string}", "required: [A, B]"),
        _with("{type: string}", "required: [A]"),
    ),
    Rule(
        "OPT211", "unsatisfiable", ERROR, "a schema that no value fits",
        "Every run would be refused.",
        _with("{type: integer, minimum: 10, maximum: 1}"),
        _with("{type: integer, minimum: 1, maximum: 10}"),
    ),
    Rule(
        "OPT212", "bad-regex", ERROR, "a pattern that cannot be used",
        "Patterns run in linear time (RE2 syntax): look-around and back-references do not exist there.",
        _with('{type: string, pattern: "^(?=a)b"}'),
        _with('{type: string, pattern: "^ab"}'),
    ),
    Rule(
        "OPT214", "remote-ref", ERROR, "a `$ref` that leads out of the schema, nowhere or in a circle",
        "Nothing is fetched when a task is compiled or run, and a reference to itself checks nothing.",
        _with('{$ref: "https://example.com/name.json"}'),
        _with('{$ref: "#/$defs/name"}', "required: [A]", "$defs: {name: {type: string}}"),
    ),
    Rule(
        "OPT215", "open-schema", WARNING, "`additionalProperties` is not false",
        "A misspelt parameter passes without a word, and the real one keeps its default.",
        "promptTemplate: Say {{A}}\n"
        "paramsSchema:\n  type: object\n  properties: {A: {type: string}}\n  required: [A]\n",
        _with("{type: string}"),
        strict=ERROR,
    ),
    Rule(
        "OPT226", "shadowed-name", ERROR, "two parameters that differ only by case, or a name that programs reserve",
        "People and other programs take one for the other.",
        "promptTemplate: Say {{A}} {{a}}\nparamsSchema:\n  type: object\n  additionalProperties: false\n"
        "  properties:\n    A: {type: string}\n    a: {type: string}\n  required: [A, a]\n",
        _with("{type: string}"),
    ),
)  # fmt: skip
