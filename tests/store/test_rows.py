"""Values on their way into columns."""

from decimal import Decimal

from optio.store.sql.transaction import dump_json


def test_json_for_a_column_is_compact_and_keeps_letters() -> None:
    assert dump_json({"a": [1, "ü", 2**70], "b": None}) == '{"a":[1,"ü",1180591620717411303424],"b":null}'


def test_money_is_text_and_no_float() -> None:
    assert dump_json(Decimal("0.10")) == '"0.10"'
