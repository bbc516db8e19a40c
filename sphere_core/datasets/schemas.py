"""The schemas that edit requests are read from, and how many records their published files have."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sphere_core.datasets.counterfact import counterfact_requests
from sphere_core.datasets.facts import facts_requests
from sphere_core.datasets.mquake import mquake_records
from sphere_core.datasets.records import Record
from sphere_core.datasets.zsre import zsre_requests
from sphere_core.requests import EditRequest

__all__ = ["SCHEMAS", "Schema"]


@dataclass(frozen=True)
class Schema:
    """One schema: what it is, how it is read, and the record counts of the published files by their name."""

    title: str
    read: Callable[[Sequence[Mapping[str, object]], str], list[Record]]
    published: Mapping[str, int]


def _one_edit_each(
    read: Callable[..., list[EditRequest]],
) -> Callable[[Sequence[Mapping[str, object]], str], list[Record]]:
    return lambda records, source: [Record(request.case_id, (request,)) for request in read(records, source=source)]


# Record counts: the authors' own files, as counted by their users; MQuAKE's from its paper (arXiv 2305.14795).
SCHEMAS = {
    "counterfact": Schema(
        "CounterFact (Meng et al., arXiv 2202.05262)",
        _one_edit_each(counterfact_requests),
        {"counterfact.json": 21919},
    ),
    "multi_counterfact": Schema(
        "MultiCounterFact: CounterFact without edits that contradict each other (Meng et al., arXiv 2210.07229)",
        _one_edit_each(counterfact_requests),
        {"multi_counterfact.json": 20877},
    ),
    "zsre": Schema(
        "zsRE in MEND's evaluation format (Levy et al. 2017; Mitchell et al., arXiv 2110.11309)",
        _one_edit_each(zsre_requests),
        {"zsre_mend_eval.json": 19086},
    ),
    "mquake": Schema(
        "MQuAKE: multi-hop questions over several edits (Zhong et al., arXiv 2305.14795)",
        lambda records, source: mquake_records(records, source=source),
        {"MQuAKE-CF-3k.json": 3000, "MQuAKE-CF.json": 9218, "MQuAKE-T.json": 1868},
    ),
    "facts": Schema("your own facts: prompt, subject, target_new", _one_edit_each(facts_requests), {}),
}
