"""Sign a payload the way its sender would and post it to a webhook; list past deliveries, judge them again, turn one into a
test."""

import argparse
import sys
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path

from optio.cli import OK, print_error
from optio.cli.shared import client, flags, ids, output, terminal
from optio.cli.shared.time_arg import time_range
from optio.errors import SettingsError
from optio.model.trigger import WebhookConfig
from optio.runs.signature import UnusableSecret, delivery_header, event_header, event_place, sign
from optio.settings import Settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    send = verbs.add_parser("send", help="sign and post a payload file")
    send.add_argument("path", metavar="PATH", help="the webhook's path, or the id of its task")
    send.add_argument("payload", metavar="FILE", help="a JSON file, or - for standard input")
    send.add_argument("--secret", help="secret to sign with (default: the local value of the task's secret)")
    send.add_argument("--event", help="event name to send, such as push")
    send.add_argument("--delivery", help="delivery id; by default a new one")
    send.add_argument("-w", "--wait", action="store_true", help="stream the run's log and wait for its end")
    output.add_arguments(send)
    flags.add_setting_flags(send, "data_dir", "secrets_dir")
    client.add_arguments(send)
    listing = verbs.add_parser("list", help="list deliveries with their verdicts, newest first")
    listing.add_argument("--task", help="only of this task")
    listing.add_argument("--path", help="only of this webhook")
    listing.add_argument("--verdict", help="only with this verdict, such as invalid")
    listing.add_argument("--since", metavar="TIME", help="only since then: 2h, 7d, or 2026-01-05T08:00:00Z")
    listing.add_argument("--until", metavar="TIME", help="only up to then")
    listing.add_argument("-n", "--limit", type=flags.page_limit, default=20, help="maximum number, up to 200 (default: 20)")
    listing.add_argument("--cursor", help="continue where an earlier list ended")
    output.add_arguments(listing)
    client.add_arguments(listing)
    terminal.add_arguments(listing)
    _add_replay(verbs.add_parser("replay", help="judge deliveries again, by the served tasks or those of a revision"))
    _add_capture(verbs.add_parser("capture", help="turn a delivery into a test of its task, with secrets redacted"))


def _add_replay(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("delivery", nargs="?", metavar="DELIVERY", help=f"one delivery: its {ids.HELP}")
    parser.add_argument("--since", metavar="TIME", help="all since then instead: 2h, 7d, or 2026-01-05T08:00:00Z")
    parser.add_argument("--until", metavar="TIME", help="with --since: up to then")
    parser.add_argument("--path", help="with --since: only of this webhook")
    parser.add_argument("--verdict", help="with --since: only deliveries with this verdict, such as invalid")
    parser.add_argument("--rev", help="judge by the task directory in this git revision")
    parser.add_argument(
        "--diff", action="store_true", help="only deliveries whose outcome differs, with a diff of parameters and prompt"
    )
    parser.add_argument("--yes", action="store_true", help="start the runs, instead of only judging")
    parser.add_argument("--again", action="store_true", help="with --yes: also if the delivery has a run already")
    output.add_arguments(parser)
    flags.add_setting_flags(parser, "tasks")
    client.add_arguments(parser)
    terminal.add_arguments(parser)


def _add_capture(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("delivery", metavar="DELIVERY", help=f"the delivery's {ids.HELP}")
    parser.add_argument("--task", help="the task to write the test for; by default the one with the delivery's webhook")
    parser.add_argument("--name", help="what the test shows, in a few words")
    parser.add_argument("--redact-emails", action="store_true", help="replace e-mail addresses with made-up ones")
    parser.add_argument("--dry-run", action="store_true", help="print what would be written, without writing it")
    flags.add_setting_flags(parser, "tasks", "data_dir", "secrets_dir")
    client.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Run the verb and return its exit code."""
    if args.verb == "replay":
        from optio.cli.shared import replay

        return replay.run(args)
    if args.verb == "capture":
        from optio.cli.shared import capture_test

        return capture_test.run(args)
    if args.verb == "list":
        return _list(client.Client(flags.read_settings(args)), args)
    return _send(args)


def _list(server: client.Client, args: argparse.Namespace) -> int:
    since, until = time_range(args, datetime.now(UTC))
    query = {name: getattr(args, name) for name in ("task", "path", "verdict", "limit", "cursor")}
    page = server.request("GET", "/api/deliveries", query={**query, "since": since, "until": until})
    as_text = lambda: output.listing(_COLUMNS, page, "no deliveries", wide=args.output == output.WIDE)  # noqa: E731
    output.show(args.output, page, as_text, (item["id"] for item in page["items"]))
    return OK


_COLUMNS = (
    output.Column("DELIVERY", "id"),
    output.Column("PATH", "path", free=True),
    output.Column("TASK", "taskId"),
    output.Column("VERDICT", "verdict"),
    output.Column("RECEIVED (UTC)", lambda delivery: output.time_cell(delivery["receivedAt"]), drop=1),
    output.Column("RUN", lambda delivery: delivery["runId"] or "-", drop=2),
    output.Column("STATUS", "status", right=True, wide=True),
    output.Column("REPEATS", "repeats", right=True, wide=True),
    output.Column("REPLAYS", "replays", right=True, wide=True),
    output.Column("KEY", "key", wide=True),
    output.Column("DETAIL", "detail", wide=True),
)


def _send(args: argparse.Namespace) -> int:
    """Post the payload. Returns 0 if the webhook accepted it; with --wait, if its run completed."""
    from optio.cli.run import follow

    settings = flags.read_settings(args)
    server = client.Client(settings)
    try:
        body = sys.stdin.buffer.read() if args.payload == "-" else Path(args.payload).read_bytes()
    except OSError as err:
        raise SettingsError(f"the payload {args.payload} cannot be read: {err.strerror}") from err
    config = _webhook_config(server, args.path)
    headers = _event_headers(config, args)
    delivery = args.delivery or str(uuid.uuid4())
    if (numbered := delivery_header(config)) is not None:
        headers[numbered] = delivery
    if config.secret is None and args.secret is not None:
        raise SettingsError(f"the webhook `{config.path}` is unsigned: --secret would sign nothing")
    if config.secret is not None:
        secret = args.secret or _secret(settings, config.secret.name)
        try:
            headers |= sign(config, secret, body, delivery=delivery, now=time.time())
        except UnusableSecret as err:
            raise SettingsError(f"the secret `{config.secret.name}` cannot be used: {err}") from err
    answer = server.request("POST", f"/api/hooks/{client.quoted(config.path)}", raw=body, headers=headers)
    if "challenge" in answer:
        output.show(args.output, answer, lambda: "200: no run, the challenge was answered")
        return OK
    if args.wait and answer["runId"]:
        return follow(server, answer["runId"], format=args.output)
    outcome = f"run {answer['runId']}" if answer["runId"] else "no run, the webhook's `events` or `when` filtered this delivery"
    if answer.get("reason"):
        print_error(f"nothing new was started: {answer['reason']}")
    output.show(args.output, answer, lambda: f"202 {answer['status']}: {outcome}", [answer["runId"]] if answer["runId"] else ())
    return OK


def _secret(settings: Settings, name: str) -> str:
    """Return the local value of a secret. Raises SettingsError, SecretUnavailable."""
    from optio.wiring import secrets

    source = secrets(settings)
    value = source.get(name)
    if value is None:
        raise SettingsError(f"no value for the secret `{name}`: give --secret, or {source.where(name)}")
    return value


def _event_headers(config: WebhookConfig, args: argparse.Namespace) -> dict[str, str]:
    """Return the header that names the event. Raises SettingsError for a flag whose value the scheme carries in the payload."""
    header = event_header(config)
    if args.event is not None and header is None:
        place = event_place(config)
        raise SettingsError(f"--event sends nothing: `scheme: {config.scheme}` names the event in the payload, at `{place}`")
    if args.delivery is not None and delivery_header(config) is None:
        raise SettingsError(f"--delivery sends nothing: `scheme: {config.scheme}` has the delivery's id in the payload")
    event = args.event or (config.events[0] if config.events else None)
    return {} if header is None or event is None else {header: event}


def _webhook_config(server: client.Client, name: str) -> WebhookConfig:
    tasks = server.request("GET", "/api/tasks")["items"]
    hooks = {
        key: trigger["config"]
        for task in tasks
        for trigger in task["triggers"]
        if trigger["type"] == "webhook"
        for key in (task["id"], trigger["config"]["path"])
    }
    if name not in hooks:
        raise SettingsError(f"no webhook `{name}` is served: " + (", ".join(sorted(hooks)) or "no task has one"))
    return WebhookConfig.of(hooks[name])
