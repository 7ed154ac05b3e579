"""Texts of the JSON Schemas that the model does not hold: examples, patterns with their messages, the meaning of each choice,
and snippets that an editor may insert. Data only; `json_schema` reads it."""

from typing import Any

from optio.model.senders import SENDERS

_RESULT = {"type": "object", "properties": {"summary": {"type": "string"}}, "required": ["summary"]}
_HEADERS = {"Authorization": "Bearer {{secret:API_TOKEN}}"}
EXAMPLES: dict[str, dict[str, list[Any]]] = {
    "TaskSpec": {
        "name": ["Weekly Security Report"],
        "id": ["weekly-security-report"],
        "description": ["Scans dependencies and generates a vulnerability summary"],
        "owner": ["team-platform", "security@example.com"],
        "agentRuntime": ["claude-code"],
        "model": ["sonnet"],
        "command": [["python3", "report.py"]],
        "promptTemplate": ["Report on {{REPO_NAME}}"],
        "promptFile": ["prompts/report.md"],
        "extends": ["templates/report.yaml"],
        "paramsSchema": [
            {
                "type": "object",
                "properties": {"REPO_NAME": {"type": "string", "maxLength": 200}},
                "required": ["REPO_NAME"],
                "additionalProperties": False,
            }
        ],
        "result": [{"schema": _RESULT}],
        "maxTurns": [20],
        "maxRetries": [2],
        "maxConcurrent": [2],
        "priority": [10],
        "warmPoolSize": [1],
        "budgetUsd": ["2.50"],
        "startLimit": [{"count": 10, "per": "1h"}],
        "dedupe": [{"key": "{{REPO}}#{{PR}}"}],
        "timeout": ["20m"],
        "stallTimeout": ["5m"],
        "connections": [["github"], [{"id": "github", "tools": ["get_issue", "create_issue"]}]],
        "tests": [[{"webhook": "payloads/push.json", "expect": {"params": {"REPO_NAME": "hello"}}}]],
    },
    "Environment": {
        "image": ["ghcr.io/acme/agent:1.4"],
        "setupCommands": [["pip install pip-audit==2.9.0"]],
        "env": [{"LOG_LEVEL": "info"}],
        "secrets": [["ANTHROPIC_API_KEY"]],
        "keepFailed": ["30m"],
    },
    "ConnectionUse": {"id": ["github"], "tools": [["get_issue", "create_issue"]]},
    "McpConnection": {
        "transport": [{"type": "streamable-http", "url": "https://mcp.example.com/mcp"}],
        "tools": [{"get_issue": "read", "create_issue": "write"}],
        "timeout": ["60s"],
        "maxCalls": [100],
    },
    "HttpConnection": {
        "url": ["https://api.example.com"],
        "headers": [_HEADERS],
        "allow": [["GET /v1/items/*", "POST /v1/items"]],
        "timeout": ["60s"],
        "maxCalls": [100],
    },
    "ModelConnection": {
        "url": ["https://openrouter.ai/api"],
        "key": ["OPENROUTER_API_KEY"],
        "models": [["gpt-5", "claude-*"]],
    },
    "StreamableHttp": {"url": ["https://mcp.example.com/mcp"], "headers": [_HEADERS]},
    "Sse": {"url": ["https://mcp.example.com/sse"], "headers": [_HEADERS]},
    "Stdio": {"command": [["uvx", "some-server==1.0.0"]], "env": [{"API_TOKEN": "{{secret:API_TOKEN}}"}]},
    "ResultSpec": {"schema": [_RESULT]},
    "StartLimit": {"count": [10], "per": ["1h"]},
    "Dedupe": {"key": ["{{REPO}}#{{PR}}"], "window": ["10m"]},
    "Network": {"egress": [["api.anthropic.com", "10.0.0.0/8"]]},
    "Resources": {"cpu": ["1", "500m"], "memory": ["2Gi"]},
    "Amounts": {"cpu": ["1", "500m"], "memory": ["2Gi"]},
    "ScheduleConfig": {
        "cronExpression": ["0 9 * * 1", "@daily"],
        "timezone": ["Europe/Berlin"],
        "paramMapping": [{"REPO_NAME": "optio"}],
        "maxCatchUp": [10],
    },
    "SecretRef": {"name": ["WEBHOOK_SECRET"]},
    "WebhookConfig": {
        "path": ["security-scan"],
        "secret": [{"name": "SECURITY_SCAN_SECRET"}],
        "signatureHeader": ["X-Signature"],
        "deliveryHeader": ["X-Request-Id"],
        "replayWindow": ["72h", "none"],
        "events": [["push"]],
        "eventHeader": ["X-Event-Key"],
        "eventPath": ["$.type"],
        "when": ["@.action == 'opened'"],
        "paramMapping": [{"REPO_NAME": "$.repository.name"}],
    },
    "Example": {
        "webhook": ["payloads/push.json"],
        "headers": [{"X-GitHub-Event": "push"}],
        "schedule": ["2026-03-30T07:00"],
        "params": [{"REPO_NAME": "hello"}],
    },
    "Expectation": {"params": [{"REPO_NAME": "hello"}], "prompt": ["prompts/push.expected.md"]},
    "PolicySpec": {
        "description": ["Ask #platform; costs are capped by the budget of the quarter"],
        "require": [["description", "owner", "budgetUsd"]],
        "namespaces": [{"team-a/*": "runs-a", "team-b/*": "runs-b"}],
        "newMonthUsd": ["100"],
        "failOn": [["danger"]],
    },
    "Ceilings": {
        "budgetUsd": ["5.00"],
        "maxTurns": [50],
        "timeout": ["1h"],
        "maxRetries": [3],
        "maxConcurrent": [5],
        "warmPoolSize": [2],
        "keepFailed": ["1h"],
        "dayUsd": ["20.00"],
        "monthUsd": ["200.00"],
    },
    "Fleet": {"dayUsd": ["100.00"], "monthUsd": ["1000.00"]},
    "Allow": {
        "runtimes": [["claude-code", "command"]],
        "models": [["sonnet", "claude-*"]],
        "images": [["ghcr.io/acme/*"]],
        "egress": [["*.github.com"]],
        "secrets": [["TEAM_*"]],
        "connections": [["github", "status-*"]],
        "tools": [["github/get_*"]],
    },
}

TOOL_CLASSES = {"read": "the tool changes nothing", "write": "the tool may change something"}
CONNECTIONS: list[dict[str, Any]] = [
    {
        "label": "an MCP server",
        "body": {
            "type": "connection",
            "kind": "mcp",
            "transport": {
                "type": "streamable-http",
                "url": "https://${1:mcp.example.com/mcp}",
                "headers": {"Authorization": "Bearer {{secret:${2:API_TOKEN}}}"},
            },
            "tools": {"${3:search}": "read"},
        },
    },
    {
        "label": "a service over HTTP",
        "body": {
            "type": "connection",
            "kind": "http",
            "url": "https://${1:api.example.com}",
            "headers": {"Authorization": "Bearer {{secret:${2:API_TOKEN}}}"},
            "allow": ["GET ${3:/v1/**}"],
        },
    },
    {
        "label": "a model service",
        "body": {
            "type": "connection",
            "kind": "model",
            "url": "https://${1:openrouter.ai/api}",
            "key": "${2:OPENROUTER_API_KEY}",
        },
    },
]

_DURATION = r"^(?=.)([0-9]{1,5}h)?([0-9]{1,5}m)?([0-9]{1,6}s)?$", "write a duration such as `90s`, `20m` or `1h30m`"
_REPLAY_WINDOW = r"^(none|(?=.)([0-9]{1,5}h)?([0-9]{1,5}m)?([0-9]{1,6}s)?)$", "write a duration such as `72h`, or `none`"
_MONEY = r"^[0-9]{1,9}(\.[0-9]{1,4})?$", 'write the amount as text, such as "2.50"'
PATTERNS: dict[str, dict[str, tuple[str, str]]] = {
    "TaskSpec": {"budgetUsd": _MONEY, "timeout": _DURATION, "stallTimeout": _DURATION},
    "Environment": {"keepFailed": _DURATION},
    "StartLimit": {"per": _DURATION},
    "Dedupe": {"window": _DURATION},
    "WebhookConfig": {"replayWindow": _REPLAY_WINDOW},
    "McpConnection": {"timeout": _DURATION},
    "HttpConnection": {"timeout": _DURATION},
    "Ceilings": {"budgetUsd": _MONEY, "timeout": _DURATION, "keepFailed": _DURATION, "dayUsd": _MONEY, "monthUsd": _MONEY},
    "Fleet": {"dayUsd": _MONEY, "monthUsd": _MONEY},
}

MEANINGS: dict[str, dict[str, dict[str, str]]] = {
    "TaskSpec": {
        "apiVersion": {"optio/v1": "the only version there is"},
        "type": {"standalone": "a task", "template": "not a task: values for tasks that name it under `extends:`"},
    },
    "Dedupe": {
        "onDuplicate": {
            "join": "the sender gets the existing run",
            "reject": "the sender is refused",
            "replace": "the waiting run is cancelled, and the new one replaces it",
        }
    },
    "ScheduleConfig": {
        "misfire": {"last": "one run for all of them", "skip": "none", "all": "one run for each, at most `maxCatchUp`"},
        "overlap": {"queue": "the new run waits for its turn", "skip": "the new run is skipped"},
    },
    "WebhookConfig": {
        "scheme": {scheme: sender.summary for scheme, sender in SENDERS.items()},
        "signatureEncoding": {"hex": "hexadecimal digits", "base64": "Base64"},
    },
    "Example": {
        "signature": {
            "valid": "as the sender would",
            "missing": "not at all",
            "wrong": "with another secret",
            "stale": "correctly, but too long ago",
        }
    },
    "Expectation": {
        "verdict": {
            "accepted": "a run is started",
            "filtered": "accepted without a run: `when` or `events` exclude it",
            "invalid": "refused: the parameters do not fit `paramsSchema`",
            "unsigned": "refused: the signature is missing or wrong",
            "stale": "refused: signed too long ago",
            "unreadable": "refused: the body is not JSON",
            "unsupported": "refused: the content type of the body is not accepted",
        }
    },
}
LEVELS = {
    "error": "its task is not served",
    "warning": "reported, and the task is served",
    "info": "reported with `--verbose` only",
    "off": "not reported",
}

_MANUAL = {"type": "manual"}
_SCHEDULE = {"type": "schedule", "config": {"cronExpression": "${1:0 9 * * 1}", "timezone": "${2:UTC}"}}
_WEBHOOK = {"type": "webhook", "config": {"path": "${1:path}", "secret": {"name": "${2:WEBHOOK_SECRET}"}}}
_PARAMS = {
    "type": "object",
    "properties": {"${1:NAME}": {"type": "${2:string}", "maxLength": "^${3:200}"}},
    "required": ["${1:NAME}"],
    "additionalProperties": False,
}

_ANSWER = {"type": "object", "properties": {"${1:summary}": {"type": "${2:string}"}}, "required": ["${1:summary}"]}


def _snippet(label: str, body: Any) -> dict[str, Any]:
    return {"label": label, "body": body}


TRIGGERS = [
    _snippet("manual trigger", _MANUAL),
    _snippet("schedule trigger", _SCHEDULE),
    _snippet("webhook trigger", _WEBHOOK),
]
SNIPPETS: dict[str, dict[str, list[dict[str, Any]]]] = {
    "TaskSpec": {
        "paramsSchema": [_snippet("one parameter", _PARAMS)],
        "result": [_snippet("a result with one key", {"schema": _ANSWER})],
        "startLimit": [_snippet("ten starts an hour", {"count": "^${1:10}", "per": "${2:1h}"})],
        "dedupe": [_snippet("one run for a key", {"key": "${1:{{REPO\\}\\}}"})],
        "tests": [
            _snippet("a delivery", [
                {"webhook": "${1:payloads/push.json}", "expect": {"params": {"${2:NAME}": "${3:value}"}}},
            ]),
        ],
    },
}  # fmt: skip
ENVIRONMENT = [
    _snippet("image, secret and hosts", {
        "image": "${1:image}",
        "secrets": ["${2:ANTHROPIC_API_KEY}"],
        "network": {"egress": ["${3:api.anthropic.com}"]},
    }),
]  # fmt: skip
TASK = [
    _snippet("new task", {
        "name": "${1:Name}",
        "description": "${2:What it is for}",
        "agentRuntime": "${3:claude-code}",
        "promptTemplate": "${4:Prompt}",
        "maxTurns": "^${5:20}",
        "budgetUsd": "'${6:2.50}'",
        "triggers": [_MANUAL],
    }),
]  # fmt: skip

_PARAMETER: dict[str, tuple[str, dict[str, Any]]] = {
    "type": ("The type of the value.", {}),
    "description": ("The purpose of the parameter.", {}),
    "default": ("The value of a run that gives none.", {}),
    "enum": ("The values that are allowed.", {}),
    "const": ("The only value that is allowed.", {}),
    "examples": ("Example values.", {}),
    "maxLength": ("The maximum length of a text; text from strangers needs such a limit.", {}),
    "minLength": ("The minimum length of a text.", {}),
    "pattern": ("A regular expression that must be found in a text: use `^` and `$` to match all of it.", {}),
    "format": ("The format of a text, such as `date`.", {"examples": ["email", "uri", "date", "date-time", "uuid"]}),
    "minimum": ("The minimum of a number.", {}),
    "maximum": ("The maximum of a number.", {}),
    "items": ("The schema of each item of a list.", {}),
    "maxItems": ("The maximum number of items of a list.", {}),
}
TYPES = ("string", "integer", "number", "boolean", "object", "array", "null")


def parameters() -> dict[str, Any]:
    """Return a JSON Schema for what stands below `paramsSchema`, for completion only: it rejects nothing, because the compiler
    checks the schema."""
    one = {key: {"description": text, **more} for key, (text, more) in _PARAMETER.items()}
    one["type"]["examples"] = list(TYPES)
    parameter = {"description": "The schema of this parameter.", "properties": one}
    return {
        "description": "",
        "properties": {
            "type": {"description": "`object`: parameters have names.", "examples": ["object"]},
            "properties": {
                "description": "The parameters, by name.",
                "additionalProperties": parameter,
                "defaultSnippets": [
                    _snippet("text", {"${1:NAME}": {"type": "string", "maxLength": "^${2:200}"}}),
                    _snippet("text with a default", {"${1:NAME}": {"type": "string", "default": "${2:value}"}}),
                    _snippet("choice", {"${1:NAME}": {"enum": ["${2:one}", "${3:other}"]}}),
                    _snippet("number", {"${1:NAME}": {"type": "integer", "minimum": "^${2:1}", "maximum": "^${3:100}"}}),
                ],
            },
            "required": {"description": "The required parameters.", "examples": [["NAME"]]},
            "additionalProperties": {
                "description": "`false`: parameters that are not declared are refused.",
                "examples": [False],
            },
        },
    }


def result() -> dict[str, Any]:
    """Return a JSON Schema for what stands below `result.schema`, for completion only, as `parameters` does."""
    texts = {**_PARAMETER, "type": ("The type of the value.", {"examples": list(TYPES)}), "description": ("What it means.", {})}
    one = {key: {"description": text, **more} for key, (text, more) in texts.items() if key != "default"}
    whole = {
        "properties": {
            "description": "The keys of the result, by name.",
            "additionalProperties": {"description": "The schema of this key.", "properties": one},
        },
        "required": {"description": "The keys that a result must have.", "examples": [["summary"]]},
        "additionalProperties": {"description": "`false`: a result with other keys is refused.", "examples": [False]},
    }
    return {"properties": {**one, **whole}}
