"""The schemas that edit requests are read from, and how many records their published files have."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from sphere_core.datasets.counterfact import counterfact_plus_request, counterfact_request
from sphere_core.datasets.easyedit import easyedit_request
from sphere_core.datasets.facts import facts_request
from sphere_core.datasets.knowedit import knowedit_request
from sphere_core.datasets.long_form import akew_record, unke_request
from sphere_core.datasets.mquake import mquake_record
from sphere_core.datasets.records import IncompleteRecord, Record
from sphere_core.datasets.ripple_edits import ripple_edits_request
from sphere_core.datasets.wikibigedit import wikibigedit_request
from sphere_core.datasets.zsre import zsre_alt_request, zsre_request
from sphere_core.foundation.errors import InputError
from sphere_core.requests import EditRequest

__all__ = ["SCHEMAS", "Schema", "read_all"]

# A record, its place in the file, and how errors call the file.
ReadRecord = Callable[[Mapping[str, object], int, str], Record]


@dataclass(frozen=True)
class Schema:
    """One schema: what it is, what its target is, how a record is read, and the record counts of the published files by
    their name. `targets` are the other targets that can be chosen, by name."""

    title: str
    target: str
    read: ReadRecord
    published: Mapping[str, int] = field(default_factory=dict)
    targets: Mapping[str, tuple[str, ReadRecord]] = field(default_factory=dict)


def _one_edit(read: Callable[[Mapping[str, object], int, str], EditRequest]) -> ReadRecord:
    def record_of(record: Mapping[str, object], index: int, source: str) -> Record:
        request = read(record, index, source)
        return Record(request.case_id, (request,))

    return record_of


def read_all(
    read: ReadRecord, records: Sequence[Mapping[str, object]], source: str, *, skip_incomplete: bool
) -> tuple[list[Record], dict[int, str]]:
    """Return the records as edit requests, in file order, and why records are left out, by their place.

    One that is left out stays in its place, without requests, so that the places of the others are those in the file.
    Raises InputError for a faulty record, and IncompleteRecord for an incomplete one unless those are skipped.
    """
    found: list[Record] = []
    left_out: dict[int, str] = {}
    for index, record in enumerate(records):
        try:
            edits = read(record, index, source)
        except IncompleteRecord as error:
            if not skip_incomplete:
                raise
            left_out[index] = error.what
            edits = Record(str(index), ())
        if not edits.requests and index not in left_out:
            raise InputError(
                "the record holds no edit",
                where=f"{source}, record {index} (case {edits.case_id[:80]})",
                remedy="give at least one, or take the record out",
            )
        found.append(edits)
    return found, left_out


# Record counts: the authors' own files, as counted by their users; MQuAKE's from its paper (arXiv 2305.14795).
SCHEMAS = {
    "counterfact": Schema(
        "CounterFact (Meng et al., arXiv 2202.05262)",
        "target_new",
        _one_edit(counterfact_request),
        {"counterfact.json": 21919},
    ),
    "multi_counterfact": Schema(
        "MultiCounterFact: CounterFact without edits that contradict each other (Meng et al., arXiv 2210.07229)",
        "target_new",
        _one_edit(counterfact_request),
        {"multi_counterfact.json": 20877},
    ),
    "counterfact_plus": Schema(
        "CounterFact+: the edited fact before each neighborhood prompt (Hoelscher-Obermaier et al., arXiv 2305.17553)",
        "target_new",
        _one_edit(counterfact_plus_request),
    ),
    "zsre": Schema(
        "zsRE in MEND's evaluation format (Levy et al. 2017; Mitchell et al., arXiv 2110.11309)",
        "answers[0], as in MEMIT's reader",
        _one_edit(zsre_request),
        {"zsre_mend_eval.json": 19086},
        {"alt": ("alt, as in EasyEdit's reader", _one_edit(zsre_alt_request))},
    ),
    "mquake": Schema(
        "MQuAKE: multi-hop questions over several edits (Zhong et al., arXiv 2305.14795)",
        "target_new of each edit",
        mquake_record,
        {"MQuAKE-CF-3k.json": 3000, "MQuAKE-CF.json": 9218, "MQuAKE-T.json": 1868},
    ),
    "knowedit": Schema(
        "KnowEdit: wiki_recent, wiki_counterfact, WikiBio, zsRE (Zhang et al., arXiv 2401.01286)",
        "target_new (WikiBio: labels)",
        _one_edit(knowedit_request),
    ),
    "wikibigedit": Schema("WikiBigEdit (Thede et al., arXiv 2503.05683)", "ans", _one_edit(wikibigedit_request)),
    "ripple_edits": Schema(
        "RippleEdits (Cohen et al., arXiv 2307.12976)", "the end of edit.prompt", _one_edit(ripple_edits_request)
    ),
    "unke": Schema("UnKE, long-form (Deng et al., arXiv 2405.15349)", "answer", _one_edit(unke_request)),
    "akew": Schema("AKEW, long-form (Wu et al., arXiv 2402.18909)", "fact_new_uns", akew_record),
    "easyedit": Schema(
        "EasyEdit's flat records (Wang et al., arXiv 2308.07269)", "target_new", _one_edit(easyedit_request)
    ),
    "facts": Schema("your own facts: prompt, subject, target_new", "target_new", _one_edit(facts_request)),
}
