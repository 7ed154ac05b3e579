"""The agenda: who is due next, in the order of time."""

from datetime import UTC, datetime, timedelta

from optio.runs.agenda import Agenda

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def test_moments_come_in_order_each_with_everyone_who_is_due_then() -> None:
    agenda = Agenda([("late", NOON + MINUTE), ("a", NOON), ("b", NOON)])
    agenda.add("early", NOON - MINUTE)
    agenda.add("c", NOON)

    found = []
    while (moment := agenda.first) is not None:
        assert agenda.tasks(moment)
        found.append((moment, sorted(agenda.pop())))

    assert found == [(NOON - MINUTE, ["early"]), (NOON, ["a", "b", "c"]), (NOON + MINUTE, ["late"])]


def test_a_moment_that_is_over_is_nobodys_and_may_come_again() -> None:
    agenda = Agenda([("a", NOON)])

    agenda.pop()
    nobody = agenda.tasks(NOON)
    agenda.add("b", NOON)

    assert (set(nobody), agenda.first, set(agenda.tasks(NOON))) == (set(), NOON, {"b"})
