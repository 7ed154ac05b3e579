"""Rules OPT401 to OPT427: webhooks."""

from optio.compiler.rules.rule import ERROR, INFO, PROVES, SUSPECTS, WARNING, Rule

_PARAMS = (
    "promptTemplate: Report on {{REPO_NAME}}\nparamsSchema:\n  type: object\n  additionalProperties: false\n"
    "  properties:\n    REPO_NAME: {type: string, maxLength: 200}\n  required: [REPO_NAME]\n"
)
_MAPPED = "paramMapping: {REPO_NAME: $.repository.name}"


def _webhook(config: str, path: str = "scan") -> str:
    return f"triggers:\n  - type: webhook\n    config:\n      path: {path}\n" + "".join(
        f"      {line}\n" for line in config.split("\n")
    )


def _mapped(mapping: str) -> str:
    return _PARAMS + _webhook("secret: {name: HOOK_SECRET}\nparamMapping: " + mapping)


_SIGNED = "secret: {name: HOOK_SECRET}"
_TEST = "tests:\n  - webhook: push.json\n    expect: {params: {REPO_NAME: hello}}\n# file: push.json\n"

RULES = (
    Rule(
        "OPT401", "bad-path", ERROR, PROVES, "a webhook path that cannot be used in a URL",
        "The path is one segment of `/api/hooks/{path}`, and must be the same for every sender.",
        _webhook(_SIGNED, "/Scan"),
        _webhook(_SIGNED, "scan"),
    ),
    Rule(
        "OPT402", "path-collision", ERROR, PROVES, "two webhooks with the same path",
        "A delivery starts one task. The first file in path order keeps the path.",
        "# file: a.yaml\nname: A\n" + _webhook(_SIGNED) + "# file: b.yaml\nname: B\n" + _webhook(_SIGNED),
        "# file: a.yaml\nname: A\n" + _webhook(_SIGNED) + "# file: b.yaml\nname: B\n" + _webhook(_SIGNED, "scan-again"),
    ),
    Rule(
        "OPT403", "guessable-path", INFO, SUSPECTS, "an unsigned webhook at a path that can be guessed",
        "A stranger needs only the path to start runs, and paths appear in logs.",
        _webhook("unsigned: true"),
        _webhook(_SIGNED),
        strict=WARNING,
    ),
    Rule(
        "OPT404", "no-secret", ERROR, PROVES, "a webhook without a secret",
        "Anyone who learns the URL can start runs and spend the budget.",
        _webhook("scheme: optio"),
        _webhook(_SIGNED),
    ),
    Rule(
        "OPT405", "plaintext-secret", ERROR, PROVES, "a secret in plain text",
        "Anyone who can read the repository, now or later, can use it. Name the secret in the file, and keep its value in the "
        "secret store.",
        _webhook("secret: whsec_c2VjcmV0"),
        _webhook(_SIGNED),
    ),
    Rule(
        "OPT406", "weak-secret", ERROR, PROVES, "a placeholder in the place of a secret's name",
        "The file names a secret. Its value is generated at random and kept in the secret store.",
        _webhook("secret: whsec_..."),
        _webhook(_SIGNED),
    ),
    Rule(
        "OPT407", "jsonpath-syntax", ERROR, PROVES, "a JSONPath or filter that cannot be parsed",
        "Paths follow RFC 9535. Names with dashes or blanks need brackets.",
        _mapped("{REPO_NAME: $.repository.full-name}"),
        _mapped("{REPO_NAME: \"$.repository['full-name']\"}"),
    ),
    Rule(
        "OPT408", "not-singular", WARNING, PROVES, "a JSONPath that may give several values for one parameter",
        "Such a path yields a list, and the parameter does not take a list.",
        _mapped('{REPO_NAME: "$.commits[*].id"}'),
        _mapped('{REPO_NAME: "$.commits[0].id"}'),
        strict=ERROR,
    ),
    Rule(
        "OPT409", "no-root", ERROR, PROVES, "a mapping that is not a JSONPath",
        "A path begins with `$`. Write a fixed value as `{literal: VALUE}`.",
        _mapped("{REPO_NAME: repository.name}"),
        _mapped("{REPO_NAME: $.repository.name}"),
    ),
    Rule(
        "OPT410", "webhook-missing-param", ERROR, PROVES, "a webhook does not give a required parameter",
        "Every delivery would be refused.",
        _mapped("{}"),
        _mapped("{REPO_NAME: $.repository.name}"),
    ),
    Rule(
        "OPT411", "mapping-typo", ERROR, PROVES, "a webhook gives a parameter that the task does not have",
        "The value would never be used.",
        _mapped("{REPO_NAME: $.repository.name, REPO_NAM: $.name}"),
        _mapped("{REPO_NAME: $.repository.name}"),
    ),
    Rule(
        "OPT412", "type-mismatch", WARNING, PROVES, "a sent value has another type than its parameter",
        "Deliveries with values that do not fit are refused, and only the list of deliveries shows it.",
        _mapped("{REPO_NAME: $.repository.id}").replace("secret:", "scheme: github\n      secret:"),
        _mapped("{REPO_NAME: $.repository.name}").replace("secret:", "scheme: github\n      secret:"),
    ),
    Rule(
        "OPT413", "path-not-in-payload", ERROR, PROVES, "a JSONPath that finds nothing in the payload",
        "The value would always be missing. The task's samples, or the sender's published deliveries, show what is sent.",
        "# file: task.yaml\n" + _mapped("{REPO_NAME: $.repo.name}") + _TEST + '{"repository": {"name": "hello"}}\n',
        "# file: task.yaml\n" + _mapped("{REPO_NAME: $.repository.name}") + _TEST + '{"repository": {"name": "hello"}}\n',
    ),
    Rule(
        "OPT415", "untrusted-shell", ERROR, PROVES, "a parameter in a shell command",
        "Parameters are filled into the prompt only; a value from outside must never become part of a command.",
        _PARAMS + 'environment: {setupCommands: ["git clone {{REPO_NAME}}"]}\n' + _webhook(f"{_SIGNED}\n{_MAPPED}"),
        _PARAMS + 'environment: {setupCommands: ["git clone https://example.com/a"]}\n' + _webhook(f"{_SIGNED}\n{_MAPPED}"),
    ),
    Rule(
        "OPT416", "untrusted-control", ERROR, PROVES, "a parameter selects the image, model, network or secret",
        "Parameters are filled into the prompt only. The sender of a value must not choose what runs.",
        _PARAMS + 'model: "{{REPO_NAME}}"\n' + _webhook(f"{_SIGNED}\n{_MAPPED}"),
        _PARAMS + "model: sonnet\n" + _webhook(f"{_SIGNED}\n{_MAPPED}"),
    ),
    Rule(
        "OPT417", "no-mapping", INFO, SUSPECTS, "a webhook without `paramMapping` on a task with parameters",
        "The whole body becomes the parameters, so the sender must know their names.",
        _PARAMS + _webhook(_SIGNED),
        _PARAMS + _webhook(f"{_SIGNED}\n{_MAPPED}"),
    ),
    Rule(
        "OPT420", "scheme-mismatch", WARNING, PROVES, "the sender signs or names events differently from the scheme",
        "Every delivery would be refused as unsigned, or no event would ever match.",
        _webhook(_SIGNED + "\nevents: [pull_request]"),
        _webhook(_SIGNED + "\nscheme: github\nevents: [pull_request]"),
    ),
    Rule(
        "OPT421", "secret-in-url", ERROR, PROVES, "a secret in a webhook's URL",
        "URLs appear in access logs, proxies and browser histories.",
        _webhook(_SIGNED, '"scan?token=abc"'),
        _webhook(_SIGNED),
    ),
    Rule(
        "OPT424", "bad-sample", ERROR, PROVES, "a sample payload that gives no valid parameters",
        "Either the mapping or the sample is out of date.",
        "# file: task.yaml\n" + _mapped("{REPO_NAME: $.repository.id}") + _TEST + '{"repository": {"id": 5}}\n',
        "# file: task.yaml\n" + _mapped("{REPO_NAME: $.repository.name}") + _TEST + '{"repository": {"name": "hello"}}\n',
    ),
    Rule(
        "OPT426", "constant-filter", WARNING, PROVES, "a test in `when` that is true for every delivery, or for none",
        "A path alone only tests whether the key exists, whatever its value. Values of different types are never equal.",
        _webhook(_SIGNED + "\nscheme: github\nevents: [pull_request]\nwhen: \"!@.pull_request.draft\""),
        _webhook(_SIGNED + "\nscheme: github\nevents: [pull_request]\nwhen: \"@.pull_request.draft == false\""),
        strict=ERROR,
    ),
    Rule(
        "OPT427", "no-event-source", ERROR, PROVES, "`events` with `scheme: hmac`, and no place that names the event",
        "Each sender names its events in its own header or in the body. Without that place, no delivery would ever match.",
        _webhook(_SIGNED + "\nscheme: hmac\nsignatureHeader: Sentry-Hook-Signature\nevents: [issue]"),
        _webhook(
            _SIGNED + "\nscheme: hmac\nsignatureHeader: Sentry-Hook-Signature\nevents: [issue]\n"
            "eventHeader: Sentry-Hook-Resource"
        ),
    ),
    Rule(
        "OPT434", "unlikely-query", INFO, SUSPECTS, "a path or a test that probably finds nothing",
        "No published delivery has it, or it is written as in another language. A payload under `tests:` decides it.",
        _webhook(_SIGNED + "\nscheme: gitlab\nevents: [Merge Request Hook]\nwhen: \"@.object_attributes.actoin == 'open'\""),
        _webhook(_SIGNED + "\nscheme: gitlab\nevents: [Merge Request Hook]\nwhen: \"@.object_attributes.action == 'open'\""),
    ),
)  # fmt: skip
