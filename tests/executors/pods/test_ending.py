"""How a pod ended, by its supervisor's last words or, without them, by its status."""

import json
from typing import Any

import pytest

from optio.executors.base import Exit
from optio.executors.pods import exec as command
from optio.executors.pods import exit_status


def said(code: int | None, **more: Any) -> Exit:
    sizes = {"stdout": 3, "stderr": 0}
    words = {"phase": "agent", "code": code, "error": "", "stopped": "", "sizes": sizes, **more}
    return exit_status.of_end(json.dumps(words))


def status(phase: str = "Failed", *, state: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {"phase": phase, "containerStatuses": [{"state": state or {}}], **more}


@pytest.mark.parametrize(
    ("code", "exit_code", "signal"), [(0, 0, None), (3, 3, None), (143, None, 15), (137, None, 9), (255, 255, None)]
)
def test_a_shell_tells_of_a_signal_by_the_code(code: int, exit_code: int | None, signal: int | None) -> None:
    ended = said(code)

    assert (ended.code, ended.signal, ended.phase, ended.sizes) == (exit_code, signal, "agent", {"stdout": 3, "stderr": 0})


def test_an_agent_that_had_to_be_killed_left_no_code() -> None:
    ended = said(None, stopped="timeout")

    assert (ended.code, ended.signal, ended.stopped_by) == (None, 9, "timeout")


@pytest.mark.parametrize(
    ("code", "stopped", "kills", "reason"),
    [
        (137, "", 1, "oom"),
        (1, "", 2, "oom"),
        (0, "", 1, None),
        (137, "", 0, None),
        (None, "timeout", 1, None),
        (143, "stop", 1, None),
    ],
)
def test_an_attempt_that_failed_when_the_kernel_had_killed_one_of_its_processes_needs_more_memory(
    code: int | None, stopped: str, kills: int, reason: str | None
) -> None:
    ended = said(code, stopped=stopped, oom=kills)

    assert (ended.reason, ended.temporary) == (reason, False)


@pytest.mark.parametrize(("code", "reason"), [(137, "oom"), (0, None)])
def test_where_the_supervisor_sees_no_count_the_kubelet_knows_of_the_memory(code: int, reason: str | None) -> None:
    words = json.dumps({"phase": "agent", "code": code, "error": "", "stopped": "", "sizes": {}}, separators=(",", ":"))

    ended = exit_status.of_status(status(state={"terminated": {"exitCode": 0, "reason": "OOMKilled", "message": words}}))

    assert ended is not None
    assert ended.reason == reason


def test_an_attempt_that_needs_more_memory_is_told_how_much_it_had_and_what_to_do() -> None:
    killed = said(137, oom=1)

    assert "512Mi" in exit_status.with_limit(killed, "512Mi").message
    assert "environment.resources.memory" in exit_status.with_limit(killed, "512Mi").message
    assert exit_status.with_limit(said(3), "512Mi") == said(3)


def test_a_program_that_is_not_there_says_so() -> None:
    assert said(127, error="ENOENT").error == "ENOENT"
    assert said(127).error is None


def test_a_pod_that_runs_has_not_ended() -> None:
    assert exit_status.of_status(status("Running", state={"running": {}})) is None
    assert exit_status.of_status({}) is None


def test_the_last_words_count_also_when_only_the_status_has_them() -> None:
    words = json.dumps({"phase": "setup", "code": 4, "error": "", "stopped": "", "sizes": {}}, separators=(",", ":"))

    ended = exit_status.of_status(status("Succeeded", state={"terminated": {"exitCode": 0, "message": words}}))

    assert ended is not None
    assert (ended.code, ended.phase, ended.reason) == (4, "setup", None)


DISRUPTED = {"type": "DisruptionTarget", "status": "True", "message": "the node is drained"}


@pytest.mark.parametrize(
    ("found", "reason", "temporary", "words"),
    [
        (status(state={"terminated": {"exitCode": 137, "reason": "OOMKilled"}}), "oom", False, "environment.resources.memory"),
        (status(reason="Evicted", message="low on disk"), "evicted", True, "low on disk"),
        (status(conditions=[DISRUPTED]), "evicted", True, "the node is drained"),
        (status(reason="DeadlineExceeded"), "timeout", False, "deadline"),
        (status(state={"terminated": {"exitCode": 70}}), "image", False, "cannot run the supervisor"),
    ],
)
def test_the_place_says_why_it_ended_an_attempt(found: dict[str, Any], reason: str, temporary: bool, words: str) -> None:
    ended = exit_status.of_status(found)

    assert ended is not None
    assert (ended.reason, ended.temporary, ended.lost) == (reason, temporary, False)
    assert words in ended.message


def test_an_end_without_a_word_is_lost() -> None:
    ended = exit_status.of_status(status(state={"terminated": {"exitCode": 137, "reason": "Error"}}))

    assert ended is not None
    assert ended.lost


@pytest.mark.parametrize(
    ("found", "reason", "words"),
    [
        (
            status("Pending", state={"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}),
            "image",
            "no such image",
        ),
        (
            status(
                "Pending", conditions=[{"type": "PodScheduled", "status": "False", "message": "0/1 nodes: insufficient cpu"}]
            ),
            "unschedulable",
            "insufficient cpu",
        ),
        (status("Pending", state={"waiting": {"reason": "ContainerCreating"}}), "start_timeout", "ContainerCreating"),
    ],
)
def test_a_pod_that_does_not_start_in_time_says_why(found: dict[str, Any], reason: str, words: str) -> None:
    assert exit_status.of_start(found) is None
    assert exit_status.slow(found)[0] == reason
    assert words in exit_status.slow(found)[1]


def test_what_time_does_not_cure_is_not_waited_for() -> None:
    hopeless = exit_status.of_start(status("Pending", state={"waiting": {"reason": "InvalidImageName", "message": "bad"}}))

    assert hopeless == Exit(reason="image", message="the pod cannot start: InvalidImageName: bad")


@pytest.mark.parametrize("word", [{"metadata": {}}, {"code": 500}, {"status": "Failure"}])
def test_a_word_of_the_api_about_a_command_that_tells_no_exit_code_is_a_refusal(word: dict[str, Any]) -> None:
    with pytest.raises(command.NotStarted, match="no reason was given") as refused:
        command._code(json.dumps(word).encode())

    assert refused.value.status == 500
