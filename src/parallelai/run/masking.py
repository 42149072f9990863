"""Mask secrets in what comes back, once, before anybody uses it (DESIGN §5, "Text that comes back is data").

By value: what the environment variables hold that an engine was given and whose names say that they are
secret. By pattern: the forms of well-known keys, whose prefixes make mistakes unlikely.
"""

from __future__ import annotations

import dataclasses
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from parallelai.records import ErrorRecord, Finding, Reply

MASK = "••••"
SHORTEST_VALUE = 8
SHORTEST_KEY = 16

_FINDING_TEXTS = ("message", "suggestion", "quote", "rule", "category")
_texts_of: Callable[[Finding], tuple[str | None, ...]] = operator.attrgetter(*_FINDING_TEXTS)

_SECRET_NAME = re.compile(r"(key|token|secret|passw|credential|auth)", re.IGNORECASE)
_KNOWN_FORMS = {
    r"sk-[A-Za-z0-9_-]{20,}": "a key of a model server",  # OpenAI, Anthropic
    r"gh[pousr]_[A-Za-z0-9]{36,}": "a GitHub token",
    r"github_pat_[A-Za-z0-9_]{50,}": "a GitHub token",
    r"glpat-[A-Za-z0-9_-]{20,}": "a GitLab token",
    r"xox[abprs]-[A-Za-z0-9-]{10,}": "a Slack token",
    r"(?:AKIA|ASIA)[A-Z0-9]{16}": "an AWS key",
    r"AIza[A-Za-z0-9_-]{35}": "a Google key",
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?-----END [A-Z ]*PRIVATE KEY-----": "a private key",
}
"""The forms of secrets that are known, and what has each."""


def is_secret(name: str, value: str) -> bool:
    """Say whether a variable holds a secret, by its name or the form of its value."""
    return bool(_SECRET_NAME.search(name)) or bool(re.search("|".join(_KNOWN_FORMS), value))


def kind_of(secret: str) -> str:
    """Say of which kind a secret is, for people who are not shown it."""
    kinds = (kind for form, kind in _KNOWN_FORMS.items() if re.fullmatch(form, secret))
    return next(kinds, "what a variable holds that an engine or a command is given")


class Masker:
    """Masks the values of secret variables and the known forms of keys."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        values = sorted({s for s in secrets if len(s) >= SHORTEST_VALUE}, key=len, reverse=True)
        self._pattern = re.compile("|".join([*map(re.escape, values), *_KNOWN_FORMS]))

    @classmethod
    def of_environment(
        cls, environment: Mapping[str, str], names: Iterable[str], keys: Iterable[str] = ()
    ) -> Masker:
        """Mask the values of those of `names` that sound secret, and those of `keys`, whatever they are called.

        What is short is not taken for a key: servers that want none are given words such as `placeholder`.
        """
        values = [environment[name] for name in names if name in environment and _SECRET_NAME.search(name)]
        held = (environment.get(name, "").strip() for name in keys)
        return cls([*values, *(key for key in held if len(key) >= SHORTEST_KEY)])

    def text(self, text: str) -> str:
        """Mask a text."""
        return self._pattern.sub(MASK, text)

    def secrets_in(self, text: str) -> frozenset[str]:
        """Find the secrets of a text."""
        return frozenset(self._pattern.findall(text))

    def reply(self, reply: Reply) -> Reply:
        """Mask all texts of a reply; one without secrets is given back as it is."""
        text = self.text(reply.text) if reply.text else reply.text
        if text == reply.text and not reply.findings and not reply.notes and reply.data is None:
            return reply
        findings = self._findings(reply.findings)
        data = self._data(reply.data)
        notes = tuple(self.text(note) for note in reply.notes)
        masked = (text, data, notes, findings)
        if masked == (reply.text, reply.data, reply.notes, reply.findings):
            return reply
        return dataclasses.replace(reply, text=text, findings=findings, data=data, notes=notes)

    def quotes(self, findings: Sequence[Finding]) -> tuple[Finding, ...]:
        """Mask what findings quote of files, which nobody has masked yet."""
        if not self._pattern.search("\0".join(finding.quote or "" for finding in findings)):
            return tuple(findings)
        return tuple(
            finding
            if not finding.quote or not self._pattern.search(finding.quote)
            else dataclasses.replace(finding, quote=self.text(finding.quote))
            for finding in findings
        )

    def record(self, record: ErrorRecord) -> ErrorRecord:
        """Mask what an error says; it may quote what a program printed."""
        advice = None if record.next is None else self.text(record.next)
        return dataclasses.replace(record, said=self.text(record.said), next=advice)

    def _findings(self, findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
        texts = {text for finding in findings for text in _texts_of(finding) if text}
        if not self._pattern.search("\0".join(texts)):  # the common case, in one look at thousands
            return findings
        return tuple(self._finding(finding) for finding in findings)

    def _finding(self, finding: Finding) -> Finding:
        texts = {name: getattr(finding, name) for name in _FINDING_TEXTS}
        masked: dict[str, Any] = {name: text and self.text(text) for name, text in texts.items()}
        return finding if masked == texts else dataclasses.replace(finding, **masked)

    def _data(self, data: Any) -> Any:
        if isinstance(data, str):
            return self.text(data)
        if isinstance(data, list):
            return [self._data(item) for item in data]
        if isinstance(data, dict):
            return {self.text(key): self._data(value) for key, value in data.items()}
        return data
