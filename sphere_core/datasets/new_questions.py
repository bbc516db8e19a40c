"""EasyEdit's `portability` of zsRE and CounterFact: a question whose answer follows from the edit."""

from collections.abc import Mapping

from sphere_core.datasets.records import refuse_unknown, required_text
from sphere_core.foundation.errors import InputError
from sphere_core.requests import Probe

__all__ = ["NEW_QUESTION", "new_questions"]

NEW_QUESTION = ("New Question", "New Answer")
_OTHERS = ("Recalled Relation",)


def new_questions(record: Mapping[str, object], *, where: str) -> list[Probe]:
    """Return the probe of a record's `portability`, `{"New Question": ..., "New Answer": ...}`; none if it is absent.

    Raises InputError for any other shape.
    """
    value = record.get("portability")
    if value is None:
        return []
    if not isinstance(value, Mapping):
        raise InputError(
            "field 'portability' must be an object",
            where=f"{where}, field portability",
            remedy='write {"New Question": ..., "New Answer": ...}',
        )
    inside = f"{where}, portability"
    refuse_unknown(value, NEW_QUESTION, where=inside, others=_OTHERS, kind="field of 'portability'")
    question, answer = (required_text(value, name, where=inside) for name in NEW_QUESTION)
    return [Probe("portability", question, answer)]
