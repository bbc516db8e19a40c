"""Edit requests and probes: one fact to write, and the prompts that tell what became of it."""

from dataclasses import dataclass
from typing import Literal

from sphere_core.errors import InputError
from sphere_core.fingerprint import fingerprint

__all__ = ["EditRequest", "Probe", "Role", "requests_digest"]

Role = Literal["rewrite", "paraphrase", "neighborhood", "portability"]


@dataclass(frozen=True)
class Probe:
    """One prompt to score.

    `target` is the answer that counts as right: the new target for rewrite and paraphrase, the true
    one for a neighborhood prompt. `contrast` is the answer it is compared with in the probability
    protocol, or None where the data set has none (zsRE).
    """

    role: Role
    prompt: str
    target: str
    contrast: str | None = None


@dataclass(frozen=True)
class EditRequest:
    """One fact to write: `prompt` holds `{}` once, where `subject` goes, and continues with `target_new`.

    Targets are bare words ("Lisbon"); the space before them is added where a prompt meets a target.
    """

    case_id: str
    prompt: str
    subject: str
    target_new: str
    target_true: str | None
    probes: tuple[Probe, ...]

    def __post_init__(self) -> None:
        where = f"case {self.case_id}"
        if self.prompt.count("{}") != 1:
            stands = "stands in it: replace it by '{}'" if self.subject in self.prompt else "does not occur in it"
            raise InputError(
                f"the prompt {self.prompt!r} must hold '{{}}' exactly once, where the subject goes",
                where=f"{where}, field prompt",
                remedy=f"the subject {self.subject!r} {stands}",
            )
        for name, text in (("subject", self.subject), ("target_new", self.target_new)):
            if not text.strip():
                raise InputError(f"{name} is empty", where=f"{where}, field {name}", remedy="give a text")

    @property
    def question(self) -> str:
        """The prompt with the subject in place."""
        return self.prompt.replace("{}", self.subject)

    def identity(self) -> dict[str, object]:
        """Everything of the request that can change a number."""
        probes = [[p.role, p.prompt, p.target, p.contrast] for p in self.probes]
        return {
            "case_id": self.case_id,
            "prompt": self.prompt,
            "subject": self.subject,
            "target_new": self.target_new,
            "target_true": self.target_true,
            "probes": probes,
        }


def requests_digest(requests: tuple[EditRequest, ...] | list[EditRequest]) -> str:
    """Return the sha256 of an ordered list of edit requests."""
    return fingerprint([request.identity() for request in requests])
