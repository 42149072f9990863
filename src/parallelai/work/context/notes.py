"""What a workstream is told of others, and of ParallelAI's and people's words, when it begins: from the records."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from parallelai.work.context.text import Note
from parallelai.work.landing.messages import is_of_settling
from parallelai.work.streams.record import Stream


def notes_of(
    streams: Iterable[Stream],
    depends_on: Sequence[str],
    mail: Sequence[str],
    said: Mapping[str, str] | None = None,
) -> list[Note]:
    """Give what was made before a workstream, what was decided, and what it is told.

    Args:
        streams: all of its plan, also those that have landed.
        mail: what is kept for its next turn.
        said: what assistants of this process said last, which is newer than the records.
    """
    known = {each.name: each for each in streams}
    made = [(other, _said(other, known, said or {})) for other in depends_on]
    interfaces = [Note(other, text, "interface") for other, text in made if text]
    landed = [(each.name, each.landed) for each in known.values() if each.landed is not None]
    decisions = [
        Note(other, note, "decision") for other, it in landed for note in it.notes if is_of_settling(note)
    ]
    return [*interfaces, *decisions, *(Note("ParallelAI", text, "word") for text in mail)]


def not_in(task: str, notes: Iterable[Note]) -> list[Note]:
    """Leave out what others finished where the task tells it already, as a run's prompts do."""
    return [note for note in notes if note.kind != "interface" or note.text.strip() not in task]


def _said(name: str, known: Mapping[str, Stream], said: Mapping[str, str]) -> str:
    stream = known.get(name)
    return said.get(name) or (stream.said if stream is not None else "")
