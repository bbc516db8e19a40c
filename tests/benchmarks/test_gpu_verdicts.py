"""What a card must reach, and what must be right at any size."""

from typing import Any

import pytest

from benchmarks.gpu.verdicts import failed, verdicts


def test_the_limits_of_a_card_are_judged_at_the_full_setting() -> None:
    record = {
        "method": "alphaedit+sphere",
        "earlier edits": 0,
        "seconds per edit": 0.08,
        "share of targets": 0.9,
        "peak, GB": 40.0,
        "predicted peak, GB": 39.0,
    }
    slow, given = {"share of the ceiling": 0.7}, {"share of the ceiling": 0.6}
    exact = {"difference from float32": 0.0, "at most": 0.01}
    results = {"setting": "full", "B2": [slow, given, exact], "B3": [record]}
    # The last form of passes counts; 0.08 s are below 0.1 and above 0.06; 40 GB are more than doctor's 39.
    assert [line["met"] for line in verdicts(results)] == [True, True, True, False, True, False]
    without_ceiling = {"setting": "full", "B2": [{"share of the ceiling": None}]}
    assert [line["met"] for line in verdicts(without_ceiling)] == [None]
    assert verdicts({"setting": "full"}) == []


@pytest.mark.parametrize(
    ("part", "what"),
    [
        (
            {"B1": {"ft": "ok", "memit": "RuntimeError: two devices", "serac": "skipped: no files"}},
            "memit: two batches",
        ),
        ({"B1": {"ft": "ok", "memit": "collapsed after 4 edits"}}, "memit: two batches"),
        ({"B2": [{"difference from float32": 0.02, "at most": 0.01}]}, "targets, difference from float32"),
    ],
)
@pytest.mark.parametrize("setting", ["full", "small"])
def test_what_is_wrong_fails_at_any_size(part: dict[str, Any], what: str, setting: str) -> None:
    results = {"setting": setting, **part}
    assert failed(results)
    assert [line["what"] for line in verdicts(results) if line["met"] is False] == [what]
    assert not failed({"setting": setting, "B1": {"ft": "ok", "serac": "skipped: no files"}})
