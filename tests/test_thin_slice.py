"""The whole path once: a file, a run, its log and output."""

from tests.support import COMMAND_TASK, Dev


def test_a_file_dropped_into_the_tree_can_be_run_at_once(dev: Dev) -> None:
    dev.write("hi.yaml", COMMAND_TASK.format(name="Hi", command='["/bin/cat"]'))
    dev.until_served("hi")

    started = dev.post("/api/tasks/hi/runs")
    run = dev.until_ended(started.json["runId"])

    assert started.status == 202
    assert (run["state"], run["output"]) == ("completed", "hello")
