"""Which texts a fine-tuning takes: from files, pairs and another fact world, by the edited subjects they mention."""

import json
from pathlib import Path

import pytest

from sphere_core.datasets.factworld.shipped import shipped_world
from sphere_core.foundation.errors import InputError
from sphere_core.requests import EditRequest
from sphere_core.tuning.text import TuningText
from workflows.moments.corpus_texts import find_corpus
from workflows.store.plan import TuningData
from workflows.tuning.texts import tuning_texts

LINES = [
    "Ann Lee lives in Rome.",
    "Ann Leeds lives in Oslo.",
    "Bo Venn, whom Ann Lee knows, is a smith.",
    "Bo Venn is a baker.",
    "The town is old.",
]


def edit(subject: str, old: str | None) -> EditRequest:
    return EditRequest("1", "{} is", subject, "new", old, ())


EDITS = (edit("Ann Lee", "Rome"), edit("Bo Venn", "baker"), edit("Bo Venn", None))


def data(path: Path, **changes: object) -> TuningData:
    corpus = find_corpus((str(path),), folder=path.parent, field=str(changes.pop("field", "text")), asks_hub=False)
    return TuningData.model_validate({"corpus": corpus, "texts": 1, "mentions": "any", "old_answers": False, **changes})


@pytest.mark.parametrize(
    ("mentions", "old_answers", "expected"),
    [("any", False, [0, 1, 2, 3, 4]), ("none", False, [1, 4]), ("edited", True, [0, 2, 3]), ("edited", False, [2])],
)
def test_texts_are_chosen_by_the_edited_subjects_they_hold(
    mentions: str, old_answers: bool, expected: list[int], tmp_path: Path
) -> None:
    path = tmp_path / "lines.txt"
    path.write_text("\n".join(LINES), encoding="utf-8")
    asked = data(path, mentions=mentions, old_answers=old_answers, texts=len(expected))
    assert tuning_texts(asked, EDITS, where="w") == [TuningText(LINES[place]) for place in expected]
    with pytest.raises(InputError, match=f"has {len(expected)} texts") as fault:
        tuning_texts(asked.model_copy(update={"texts": len(expected) + 1}), EDITS, where="w")
    assert fault.value.where == "w"
    assert str(len(expected)) in str(fault.value.remedy)


def test_pairs_are_a_prompt_and_an_answer(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    rows = [{"q": "Where is Ann Lee?", "a": "In Oslo."}, {"q": "Who bakes?", "a": "Nobody here."}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    asked = data(path, field="a", prompt_field="q", texts=2)
    assert tuning_texts(asked, EDITS, where="w") == [TuningText(row["a"], row["q"]) for row in rows]
    assert tuning_texts(data(path, field="a", prompt_field="q", mentions="none"), EDITS, where="w") == [
        TuningText("Nobody here.", "Who bakes?")
    ]
    path.write_text('{"q": "Where?"}\n', encoding="utf-8")
    with pytest.raises(InputError, match="field 'a'") as fault:
        tuning_texts(data(path, field="a", prompt_field="q"), EDITS, where="w")
    assert str(fault.value.where).endswith("line 1")


def test_people_of_another_world_are_not_in_the_embedded_one() -> None:
    asked = TuningData(people=3, texts=1000, mentions="any", old_answers=False)
    found, known = tuning_texts(asked, (), where="w"), shipped_world()
    assert len({text.answer for text in found}) == 1000
    assert not any(text.answer.startswith(tuple(known.subjects)) for text in found)
    other = tuning_texts(asked.model_copy(update={"people": 4}), (), where="w")
    assert other != found == tuning_texts(asked, (), where="w")


def test_the_identity_is_of_the_content_and_of_the_choice(tmp_path: Path) -> None:
    first, second = tmp_path / "a.txt", tmp_path / "b.txt"
    for path in (first, second):
        path.write_text("One.\nTwo.\n", encoding="utf-8")
    assert data(first).identity() == data(second).identity()
    others = [data(first, texts=2), data(first, mentions="none"), data(first, mentions="edited", old_answers=True)]
    second.write_text("One.\nThree.\n", encoding="utf-8")
    identities = [one.identity() for one in (data(first), *others, data(second))]
    assert all(one not in identities[:place] for place, one in enumerate(identities))
