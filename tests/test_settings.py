"""Settings: where they come from, what is refused, what is shown."""

from datetime import timedelta
from pathlib import Path

import pytest

from optio.errors import SettingsError
from optio.settings import SETTINGS, Settings, unknown_variables


def test_defaults_need_nothing() -> None:
    made = Settings.load({})

    assert (made.host, made.port, made.tasks, made.data_dir) == ("127.0.0.1", 8000, Path("tasks.d"), Path(".optio"))
    assert (made.max_workflow_concurrent, made.webhook_rate_per_minute, made.writes) == (5, 60, "deny")
    assert set(made.origins.values()) == {"default"}


def test_a_flag_overrides_a_variable_and_a_variable_overrides_a_commands_default() -> None:
    environ = {"OPTIO_PORT": "1", "OPTIO_WRITES": "deny"}

    made = Settings.load(environ, {"port": "2", "writes": None}, {"writes": "files", "lease": "3s"})

    assert (made.port, made.origins["port"]) == (2, "--port")
    assert (made.writes, made.origins["writes"]) == ("deny", "OPTIO_WRITES")
    assert (made.lease, made.origins["lease"]) == (timedelta(seconds=3), "default")


@pytest.mark.parametrize(
    ("environ", "variable"),
    [
        ({"OPTIO_TASKS": ".", "OPTIO_DATA_DIR": "data"}, "OPTIO_DATA_DIR"),
        ({"OPTIO_TASKS": "here", "OPTIO_DATA_DIR": "here"}, "OPTIO_DATA_DIR"),
        ({"OPTIO_TASKS": "here", "OPTIO_SECRETS_DIR": "here/secrets"}, "OPTIO_SECRETS_DIR"),
        ({"OPTIO_TASKS": "link", "OPTIO_SECRETS_DIR": "here/secrets"}, "OPTIO_SECRETS_DIR"),
    ],
)
def test_directories_that_prompts_could_read_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], variable: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    (tmp_path / "link").symlink_to("here")

    with pytest.raises(SettingsError, match=f"{variable} .* where prompts could read it"):
        Settings.load(environ)
    Settings.load({"OPTIO_TASKS": "."})
    Settings.load({"OPTIO_TASKS": "here/tasks.d", "OPTIO_DATA_DIR": "here"})


def test_an_empty_variable_is_an_unset_one() -> None:
    assert Settings.load({"OPTIO_PORT": ""}).port == 8000


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", "-1"),
        ("port", "\u0663"),
        ("max_workflow_concurrent", "0"),
        ("max_workflow_concurrent", "2147483648"),
        ("webhook_rate_per_minute", "sixty"),
        ("lease", "10"),
        ("default_timeout", "1d"),
        ("writes", "git"),
        ("executor", "docker"),
        ("database_url", "mysql://db"),
        ("redis_url", "memcached://cache"),
        ("redis_url", "unix:///run/redis.sock"),
        ("redis_url", "redis:///0"),
        ("redis_url", "redis://cache:0"),
        ("redis_url", "redis://cache:65536"),
        ("redis_url", "redis://cache/sessions"),
        ("redis_url", "redis://password@cache"),
        ("redis_url", "redis://:pass#word@cache"),
        ("redis_url", "redis://cache?socket_timeout=60"),
        ("redis_url", "rediss://cache?db=1"),
        ("redis_url", "rediss://cache?ssl_check_hostname=maybe"),
        ("redis_url", "rediss://cache?ssl_ca_certs="),
        ("url", "localhost:8000"),
        ("url", "http://a\x1bb"),
        ("url", "http://[::1"),
        ("url", "http://localhost:70000"),
    ],
)
def test_a_value_that_cannot_be_honoured_names_its_origin(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"^OPTIO_{name.upper()}: `"):
        Settings.load({f"OPTIO_{name.upper()}": value})
    with pytest.raises(SettingsError, match=f"^--{name.replace('_', '-')}: `"):
        Settings.load({}, {name: value})


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("redis://localhost", "redis://localhost:6379/0"),
        ("redis://cache:7000/3", "redis://cache:7000/3"),
        ("redis://me:p%2Fw@[::1]/", "redis://me:p%2Fw@[::1]:6379/0"),
        ("rediss://:pw@cache?ssl_ca_certs=/etc/ca.pem", "rediss://:pw@cache:6379/0?ssl_ca_certs=/etc/ca.pem"),
        ("rediss://cache?ssl_cert_reqs=none", "rediss://cache:6379/0?ssl_cert_reqs=none"),
    ],
)
def test_a_redis_url_is_read_with_what_it_leaves_out(text: str, whole: str) -> None:
    assert Settings.load({"OPTIO_REDIS_URL": text}).redis_url == whole


@pytest.mark.parametrize("password", ["pa55", "pa/55", "p@55", "p#55", "p?55"])
@pytest.mark.parametrize("port", ["6379", "nonsense"])
def test_the_password_in_a_url_is_shown_nowhere(password: str, port: str) -> None:
    try:
        shown = str(Settings.load({"OPTIO_REDIS_URL": f"redis://:{password}@cache:{port}/0"}).shown())
    except SettingsError as err:
        shown = str(err)

    assert "cache" in shown
    assert "55" not in shown


@pytest.mark.parametrize(
    ("host", "url"),
    [("127.0.0.1", "http://127.0.0.1:9"), ("0.0.0.0", "http://127.0.0.1:9"), ("::1", "http://[::1]:9")],
)
def test_the_command_line_finds_the_server_of_the_same_settings(host: str, url: str) -> None:
    assert Settings.load({"OPTIO_HOST": host, "OPTIO_PORT": "9"}).server_url == url


def test_a_token_that_no_header_can_hold_is_refused_and_not_shown() -> None:
    with pytest.raises(SettingsError, match=r"^--token: its content cannot be used"):
        Settings.load(flags={"token": "gehe\u0131m"})


def test_every_setting_is_shown_without_its_secret() -> None:
    made = Settings.load({"OPTIO_TOKEN": "t0ken", "OPTIO_ANTHROPIC_BASE_URL": "https://me:pa55@gateway", "OPTIO_LEASE": "90s"})

    rows = {name: value for name, value, _, _ in made.shown()}

    assert set(rows) == {f"OPTIO_{name.upper()}" for name in SETTINGS}
    assert rows["OPTIO_TOKEN"] == "***"
    assert rows["OPTIO_ANTHROPIC_BASE_URL"] == "https://***@gateway"
    assert rows["OPTIO_LEASE"] == "90s"


def test_variables_that_are_no_settings_are_found() -> None:
    environ = {"OPTIO_PROT": "1", "OPTIO_COLOUR": "1", "OPTIO_SECRET_X": "1", "OPTIO_DEBUG": "1", "OPTIO_PORT": "1", "PATH": ""}

    assert list(unknown_variables(environ)) == [("OPTIO_COLOUR", None), ("OPTIO_PROT", "OPTIO_PORT")]


def test_programs_and_endpoints_are_known_by_the_runtimes_that_they_belong_to() -> None:
    made = Settings.load(
        {"OPTIO_PROGRAM_CLAUDE_CODE": "/a", "OPTIO_ENDPOINT_CODEX": "http://b", "OPTIO_ANTHROPIC_BASE_URL": "http://c"}
    )

    assert (made.programs, made.endpoints) == ({"claude-code": "/a"}, {"codex": "http://b", "claude-code": "http://c"})


def test_the_endpoint_of_claude_code_is_found_under_the_name_that_one_expects() -> None:
    expected = "OPTIO_ENDPOINT_CLAUDE_CODE"

    assert list(unknown_variables({expected: "x"})) == [(expected, "OPTIO_ANTHROPIC_BASE_URL")]


OIDC = {
    "OPTIO_OIDC_ISSUER": "https://login.example.com/realms/acme",
    "OPTIO_OIDC_CLIENT_ID": "optio",
    "OPTIO_OIDC_CLIENT_SECRET": "s3cret",
    "OPTIO_OIDC_ROLES": "cn=ops,ou=acme=operator, optio admins = admin ,a=b=viewer,",
}


def test_a_provider_is_set_whole_or_not_at_all() -> None:
    made = Settings.load(OIDC)

    assert made.oidc_roles == {"cn=ops,ou=acme": "operator", "optio admins": "admin", "a=b": "viewer"}
    assert (made.oidc_scopes, made.oidc_session) == (("openid", "profile", "email"), timedelta(hours=12))
    assert {row[0]: row[1] for row in made.shown()}["OPTIO_OIDC_CLIENT_SECRET"] == "***"
    for name in OIDC:
        lacking = {key: value for key, value in OIDC.items() if key != name}
        with pytest.raises(SettingsError, match=f"people can sign in only if {name} is set too: set or unset all"):
            Settings.load(lacking)
    with pytest.raises(SettingsError, match=r"^OPTIO_OIDC_DOMAINS: people can sign in only if OPTIO_OIDC_ISSUER, "):
        Settings.load({"OPTIO_OIDC_DOMAINS": "example.com"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("issuer", "http://login.example.com"),
        ("issuer", "https://"),
        ("issuer", "https://me@login.example.com"),
        ("issuer", "https://login.example.com?realm=acme"),
        ("issuer", "login.example.com"),
        ("roles", "ops=root"),
        ("roles", "ops"),
        ("roles", "=viewer"),
        ("roles", "ops=viewer,ops=admin"),
        ("roles", "ops=viewer;others=admin"),
        ("scopes", "profile,email"),
        ("scopes", 'openid,"'),
        ("domains", "@example.com"),
        ("domains", "localhost"),
        ("session", "31d"),
        ("session", "30s"),
        ("session", "0h"),
    ],
)
def test_a_part_of_a_provider_that_cannot_be_used_is_refused(name: str, value: str) -> None:
    variable = f"OPTIO_OIDC_{name.upper()}"

    with pytest.raises(SettingsError, match=f"^{variable}: `.*` cannot be used: it must be "):
        Settings.load({**OIDC, variable: value})


def test_a_provider_on_this_machine_needs_no_tls() -> None:
    assert Settings.load({**OIDC, "OPTIO_OIDC_ISSUER": "http://localhost:9000"}).oidc_issuer == "http://localhost:9000"


@pytest.mark.parametrize("name", ["database_url", "redis_url", "token"])
def test_a_value_that_holds_a_credential_may_stand_in_a_file(tmp_path: Path, name: str) -> None:
    value = {"database_url": "postgresql://u:p@h/d", "redis_url": "redis://:p@h:6379/0", "token": "t"}[name]
    (tmp_path / "value").write_text(f"{value}\n")
    variable = f"OPTIO_{name.upper()}"

    made = Settings.load({f"{variable}_FILE": str(tmp_path / "value")})

    assert getattr(made, name) == value
    assert made.origins[name] == f"{variable}_FILE"
    assert list(unknown_variables({f"{variable}_FILE": "x"})) == []
    with pytest.raises(SettingsError, match="both set"):
        Settings.load({f"{variable}_FILE": str(tmp_path / "value"), variable: value})


def test_a_file_that_cannot_be_used_is_told_without_what_stands_in_it(tmp_path: Path) -> None:
    (tmp_path / "wrong").write_text("hunter2")
    (tmp_path / "empty").write_text(" \n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    cases = {"wrong": "must be", "empty": "is empty", "binary": "it is not UTF-8 text", "missing": "No such file"}

    for name, words in cases.items():
        with pytest.raises(SettingsError, match=words) as told:
            Settings.load({"OPTIO_DATABASE_URL_FILE": str(tmp_path / name)})
        assert "hunter2" not in str(told.value)


@pytest.mark.parametrize("text", ["0d", "90", "x", "d", "-1d", "1w", "9999999d"])
def test_a_span_to_keep_things_for_is_refused_when_it_is_none(text: str) -> None:
    with pytest.raises(SettingsError, match="a span such as 90d, 36h or 30m"):
        Settings.load({"OPTIO_KEEP_RUNS": text})


def test_an_orphan_timeout_that_a_renewal_could_miss_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"OPTIO_ORPHAN_TIMEOUT \(19s\) must be at least twice OPTIO_LEASE \(10s\)"):
        Settings.load({"OPTIO_ORPHAN_TIMEOUT": "19s"})

    assert Settings.load({"OPTIO_ORPHAN_TIMEOUT": "20s"}).orphan_timeout == timedelta(seconds=20)


def test_a_request_of_pods_above_their_limit_is_refused_and_a_default_one_gives_way() -> None:
    with pytest.raises(SettingsError, match=r"OPTIO_POD_CPU_REQUEST \(2\) is more than the limit OPTIO_POD_CPU \(1\): lower"):
        Settings.load({"OPTIO_POD_CPU_REQUEST": "2"})
    with pytest.raises(SettingsError, match="OPTIO_POD_MEMORY: `lots` cannot be used: it must be an amount above 0"):
        Settings.load({"OPTIO_POD_MEMORY": "lots"})

    assert Settings.load({"OPTIO_POD_MEMORY": "64Mi"}).pod_memory_request == "256Mi"


@pytest.mark.parametrize(
    ("environ", "scope", "namespace"),
    [
        ({}, None, "optio"),
        ({"OPTIO_EXECUTOR": "kubernetes", "OPTIO_KUBE_NAMESPACE": "runs"}, "", "runs"),
        (
            {"OPTIO_EXECUTOR": "kubernetes", "OPTIO_KUBE_NAMESPACE": "runs", "OPTIO_TEAM_NAMESPACE": "runs-a"},
            "runs-a",
            "runs-a",
        ),
    ],
)
def test_a_worker_takes_the_runs_of_its_team_or_those_of_tasks_without_a_namespace_or_as_processes_all(
    environ: dict[str, str], scope: str | None, namespace: str
) -> None:
    loaded = Settings.load(environ)

    assert (loaded.scope.namespace, loaded.pod_namespace) == (scope, namespace)


def test_a_worker_of_processes_has_no_namespace_of_a_team() -> None:
    with pytest.raises(SettingsError, match=r"^OPTIO_TEAM_NAMESPACE: applies to OPTIO_EXECUTOR=kubernetes only"):
        Settings.load({"OPTIO_TEAM_NAMESPACE": "runs-a"})
    with pytest.raises(SettingsError, match=r"^OPTIO_TEAM_NAMESPACE: `Runs_A` cannot be used"):
        Settings.load({"OPTIO_EXECUTOR": "kubernetes", "OPTIO_TEAM_NAMESPACE": "Runs_A"})


def test_a_key_that_is_given_in_the_place_of_its_name_is_not_shown() -> None:
    with pytest.raises(SettingsError, match="names of secrets") as caught:
        Settings.load({"OPTIO_CREDENTIALS": "sk-ant-123"})

    assert "sk-ant-123" not in str(caught.value)
