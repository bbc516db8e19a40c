"""Edit requests and probes: one fact to write, and the prompts that tell what became of it."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sphere_core.foundation.errors import InputError
from sphere_core.foundation.fingerprint import canonical_json, fingerprint
from sphere_core.foundation.look_alikes import why_absent

__all__ = [
    "EditRequest",
    "EncodedRequest",
    "KnownFact",
    "Probe",
    "Role",
    "encode_request",
    "fact_key",
    "generation_digest",
    "overwritten_cases",
    "requests_digest",
]

Role = Literal["rewrite", "paraphrase", "neighborhood", "portability", "multi_hop"]


@dataclass(frozen=True)
class KnownFact:
    """What a model must know before it is edited: a prompt, and the answers of which any counts."""

    prompt: str
    answers: tuple[str, ...]


@dataclass(frozen=True)
class Probe:
    """One prompt to score.

    `target` is the answer that counts as right: the new target for rewrite and paraphrase, the true
    one for a neighborhood prompt. `contrast` is the answer it is compared with in the probability
    protocol, or None if the data set has none (zsRE). Probes of a request and role that share a `group` are
    variants of one question, and one right answer among them is enough: the aliases of an answer (equal prompts) and
    the wordings of a multi-hop question (MQuAKE, arXiv 2305.14795). A probe without a group counts alone. A probe is
    scored only if the unedited model knows every fact of `known_before` (RippleEdits, arXiv 2307.12976).
    """

    role: Role
    prompt: str
    target: str
    contrast: str | None = None
    group: str | None = None
    known_before: tuple[KnownFact, ...] = ()

    def identity(self) -> list[object]:
        """Everything of the probe that can change a number; an absent group or condition is left out."""
        named = [self.role, self.prompt, self.target, self.contrast]
        known = [[fact.prompt, *fact.answers] for fact in self.known_before]
        if known:
            return [*named, self.group, known]
        return [*named, *([] if self.group is None else [self.group])]


@dataclass(frozen=True)
class EditRequest:
    """One fact to write: `prompt` holds `{}` once, where `subject` goes, and continues with `target_new`.

    Targets are bare words ("Lisbon"); the space before them is added where a prompt meets a target.

    `relation` names what subject and target are related by, where the data set says so. `generation_prompts` are
    continued freely and `reference_texts` are what the continuations should resemble (fluency and consistency,
    arXiv 2202.05262); they are read by evaluators alone and are no part of a trajectory's identity.
    `supersedes` is the case id of an earlier request that this one contradicts: from here on that request
    is no longer asked, since its probes expect an answer that has been edited away.
    """

    case_id: str
    prompt: str
    subject: str
    target_new: str
    target_true: str | None
    probes: tuple[Probe, ...]
    relation: str | None = None
    generation_prompts: tuple[str, ...] = ()
    reference_texts: tuple[str, ...] = ()
    supersedes: str | None = None

    def __post_init__(self) -> None:
        where = f"case {self.case_id}"
        if self.prompt.count("{}") != 1:
            found = "occurs in it: replace it by '{}'" if self.subject in self.prompt else "does not occur in it"
            why = None if self.subject in self.prompt else why_absent(self.prompt, self.subject)
            often = f"it holds it {self.prompt.count('{}')} times: keep the one that the prompt is about"
            raise InputError(
                f"the prompt {self.prompt!r} must hold '{{}}' exactly once, where the subject goes",
                where=f"{where}, field prompt",
                remedy=often if "{}" in self.prompt else why or f"the subject {self.subject!r} {found}",
            )
        for name, text in (("subject", self.subject), ("target_new", self.target_new)):
            if not text.strip():
                raise InputError(f"{name} is empty", where=f"{where}, field {name}", remedy="give a text")
        if "{}" in self.subject:
            raise InputError(
                f"the subject {self.subject!r} holds '{{}}', which is the subject's own place in a prompt",
                where=f"{where}, field subject",
                remedy="write the subject itself",
            )

    @property
    def question(self) -> str:
        """The prompt with the subject in place."""
        return self.prompt.replace("{}", self.subject)

    def identity(self) -> dict[str, object]:
        """Everything of the request that can change a number of editing, or of scoring its probes."""
        named: dict[str, object] = {
            "case_id": self.case_id,
            "prompt": self.prompt,
            "subject": self.subject,
            "target_new": self.target_new,
            "target_true": self.target_true,
            "probes": [probe.identity() for probe in self.probes],
        }
        return named if self.supersedes is None else {**named, "supersedes": self.supersedes}


@dataclass(frozen=True)
class EncodedRequest:
    """A request as the canonical JSON that digests of streams are made of: its identity, and the part that only free
    generation uses; `generates`: whether that part is not empty."""

    identity: str
    generation: str
    generates: bool

    @staticmethod
    def digest(requests: Sequence["EncodedRequest"]) -> str:
        """Return the sha256 of an ordered list, the same as `requests_digest` gives."""
        return _list_digest([request.identity for request in requests])

    @staticmethod
    def generation_digest(requests: Sequence["EncodedRequest"]) -> str | None:
        """Return the sha256 of what only free generation is scored by, the same as `generation_digest` gives."""
        if not any(request.generates for request in requests):
            return None
        return _list_digest([request.generation for request in requests])


def encode_request(request: EditRequest) -> EncodedRequest:
    """Return a request encoded for digests."""
    generation = [request.case_id, [*request.generation_prompts], [*request.reference_texts]]
    generates = bool(request.generation_prompts or request.reference_texts)
    return EncodedRequest(canonical_json(request.identity()), canonical_json(generation), generates)


def fact_key(request: EditRequest) -> str:
    """Return what a fact is recognised by in any file: 16 hex digits of the digest of its prompt and subject."""
    return fingerprint([request.prompt, request.subject])[:16]


def requests_digest(requests: Sequence[EditRequest]) -> str:
    """Return the sha256 of an ordered list of edit requests."""
    return EncodedRequest.digest([encode_request(request) for request in requests])


def generation_digest(requests: Sequence[EditRequest]) -> str | None:
    """Return the sha256 of the parts that only free generation uses, or None if no request has any."""
    return EncodedRequest.generation_digest([encode_request(request) for request in requests])


def overwritten_cases(requests: Sequence[EditRequest]) -> frozenset[str]:
    """Return the case ids of requests that another request of the list has contradicted since."""
    return frozenset(request.supersedes for request in requests if request.supersedes is not None)


def _list_digest(texts: Sequence[str]) -> str:
    """Return `fingerprint` of a list whose items are given as canonical JSON."""
    return hashlib.sha256(f"[{','.join(texts)}]".encode()).hexdigest()
