"""What `optio plan` finds: not what a file says, but what its change does."""

from optio.compiler.rules.rule import ERROR, INFO, WARNING, Rule

RULES = (
    Rule(
        "OPT801", "hook-moved", WARNING, "a webhook's senders are turned away",
        "What was set up at the sender does not fit any more; for a new secret there is `previousSecret`.",
        "", "",
    ),
    Rule(
        "OPT802", "contract-break", WARNING, "parameters that were taken are refused",
        "Who started the task yesterday is refused after the merge. A new parameter with a `default` breaks nobody.",
        "", "",
    ),
    Rule(
        "OPT803", "delete-live", WARNING, "a task that is in use goes",
        "It has runs that wait or run, or that began in the last 30 days: somebody uses it.",
        "", "",
    ),
    Rule(
        "OPT804", "mass-delete", ERROR, "many tasks go at once",
        "A wrong directory, a generator that failed or a bad merge looks like this: all go, or over a fifth and more than two.",
        "", "",
    ),
    Rule(
        "OPT805", "trust-up", WARNING, "a task is trusted with more",
        "With a new secret, host, service or image, what an agent was talked into can do more harm than before.",
        "", "",
    ),
    Rule(
        "OPT806", "money-up", WARNING, "triggers may spend more",
        "The worst case of the coming 30 days rises: a higher budget, more starts, a dearer model, or no bound any more.",
        "", "",
    ),
    Rule(
        "OPT807", "behaviour-change", INFO, "another prompt, model, runtime or image",
        "The task answers in another way from the next run on; runs that wait keep the definition that they have.",
        "", "",
    ),
    Rule(
        "OPT808", "schedule-jump", INFO, "the next fire is another",
        "A time that was expected is left out, or one comes that was not: who waits for the report should know.",
        "", "",
    ),
    Rule(
        "OPT809", "cosmetic", INFO, "the file differs, and the task does the same",
        "Comments, order, quotes, a description, tests, the file's place: nothing that a run would notice.",
        "", "",
    ),
    Rule(
        "OPT810", "task-removed", WARNING, "a task goes",
        "Its triggers end with the merge, and who starts it by its id is answered 404.",
        "", "",
    ),
    Rule(
        "OPT811", "policy-loosened", WARNING, "the policy gives something up",
        "What it refused is allowed after the merge, for every task.",
        "", "",
    ),
)  # fmt: skip
