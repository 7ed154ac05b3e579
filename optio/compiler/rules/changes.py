"""Rules OPT801 to OPT811: findings of `optio plan` about the effect of a change, and not about a file."""

from optio.compiler.rules.rule import ERROR, INFO, PROVES, WARNING, Rule

RULES = (
    Rule(
        "OPT801", "hook-moved", WARNING, PROVES, "senders of a webhook will be refused",
        "The settings at the sender no longer match. To change a secret without interruption, use `previousSecret`.",
        "", "",
    ),
    Rule(
        "OPT802", "contract-break", WARNING, PROVES, "parameters that were accepted are refused",
        "Callers that start the task today are refused after the merge. A new parameter with a `default` breaks no caller.",
        "", "",
    ),
    Rule(
        "OPT803", "delete-live", WARNING, PROVES, "a task with recent runs is removed",
        "The task has queued or running runs, or runs from the last 30 days.",
        "", "",
    ),
    Rule(
        "OPT804", "mass-delete", ERROR, PROVES, "many tasks are removed at once",
        "A wrong directory, a failed generator or a bad merge looks like this: all tasks go, or more than two and over a "
        "fifth.",
        "", "",
    ),
    Rule(
        "OPT805", "trust-up", WARNING, PROVES, "a change of what a task may reach, or of who may start it",
        "With another secret, host, service, image or filter, a manipulated agent may do more harm than before.",
        "", "",
    ),
    Rule(
        "OPT806", "money-up", WARNING, PROVES, "triggers may spend more",
        "The worst case of the next 30 days rises: a higher budget, more starts, a more expensive model, or a limit that was "
        "removed.",
        "", "",
    ),
    Rule(
        "OPT807", "behaviour-change", INFO, PROVES, "the prompt, model, runtime or image changes",
        "The task may answer differently from the next run on. Runs that wait keep the definition that they were accepted "
        "with.",
        "", "",
    ),
    Rule(
        "OPT808", "schedule-jump", INFO, PROVES, "the next fire changes",
        "An expected run is dropped, or an unexpected one is added. Tell the people who wait for its result.",
        "", "",
    ),
    Rule(
        "OPT809", "cosmetic", INFO, PROVES, "the file changes, and the task does not",
        "Only comments, order, quotes, the description, tests or the file's path differ. Runs are not affected.",
        "", "",
    ),
    Rule(
        "OPT810", "task-removed", WARNING, PROVES, "a task is removed",
        "Its triggers end with the merge, and requests that start it by its id get the answer 404.",
        "", "",
    ),
    Rule(
        "OPT811", "policy-loosened", WARNING, PROVES, "the policy allows more than before",
        "Something that the policy refused is allowed for every task after the merge.",
        "", "",
    ),
)  # fmt: skip
