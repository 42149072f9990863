"""What persons are asked: leave for what assistants do, where no policy gives it (CONTRACTS §2), and other choices."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Literal

from msgspec import Struct

from parallelai.engines.protocol import Answer, Permit, Question, Workspace
from parallelai.errors import Unavailable, UsageError
from parallelai.events import PermissionAnswered, PermissionAsked
from parallelai.records import LimitKey
from parallelai.run.executors.base import AttemptId
from parallelai.run.journaling import Append

POLICY = "policy"
WITHDRAWN = Answer("withdrawn", POLICY)
"""Of a question that nobody need answer any more."""
EDITS = frozenset({"edit", "write", "create", "delete", "move", "read", "search", "think"})
"""What an assistant may do in its own workspace also where nothing confines it."""

MOST_DETAIL = 2000
"""How many characters of what a question is about are written down."""

Choice = tuple[str, str, str]
"""Of which task, what was asked about, and the detail of it."""

NOTHING_CHOSEN: Mapping[Choice, Answer] = {}
ATTEND = "go on with the run on a terminal"

Verdict = Literal["allow", "deny", "ask"]


def verdict(question: Question, workspace: Workspace | None, *, is_confined: bool) -> Verdict:
    """Say what the policy answers: what a sandbox confines is allowed, without one only work on the files."""
    if workspace is None or workspace.permissions == "deny":
        return "deny"
    if workspace.permissions == "ask":
        return "ask"
    return "allow" if is_confined or question.what in EDITS else "ask"


def _unattended(workspace: Workspace | None) -> str:
    """What to do where nobody is there to answer: with `ask`, a sandbox alone does not help."""
    if workspace is not None and workspace.permissions == "ask":
        return "run it on a terminal, or with `permissions: auto` in a sandbox, or with `permissions: deny`"
    return "run it on a terminal, with a sandbox, or with `permissions: deny`"


def option_for(is_allowed: bool, options: tuple[str, ...]) -> str:
    """Choose the option that means yes once, or no; never one that lasts."""
    wanted = "allow_once" if is_allowed else "reject_once"
    words = ("allow",) if is_allowed else ("deny", "reject")
    fitting = [option for option in options if any(word in option for word in words)]
    once = [option for option in fitting if "always" not in option]
    return wanted if wanted in options else next(iter(once), "deny")


class _Open(Struct, frozen=True):
    question: Question
    answered: asyncio.Future[Answer]


class Questions:
    """The open questions of one run.

    Args:
        append: writes an event down.
        is_attended: somebody is there; else what needs a person ends the attempt.
        is_confined: says whether a workspace is really confined on this machine.
        chosen: what persons chose in earlier processes of the run: the same question is not asked again.
    """

    def __init__(
        self,
        append: Append,
        *,
        is_attended: bool,
        is_confined: Callable[[Workspace], bool],
        chosen: Mapping[Choice, Answer] = NOTHING_CHOSEN,
    ) -> None:
        self._append = append
        self._is_attended = is_attended
        self._is_confined = is_confined
        self._chosen = chosen
        self._open: dict[str, _Open] = {}
        self._asked = 0

    async def ask(self, id: AttemptId, question: Question, workspace: Workspace | None) -> Answer:
        """Answer by policy, or wait for a person. Raises `Unavailable` where nobody is there to ask."""
        is_confined = workspace is not None and self._is_confined(workspace)
        answer = verdict(question, workspace, is_confined=is_confined)
        name = self._put(question, id.task, id.attempt)
        if answer != "ask":
            given = Answer(option_for(answer == "allow", question.options), POLICY)
        elif not self._is_attended:
            self._append(PermissionAnswered(name, "deny", POLICY), task=id.task, attempt=id.attempt)
            raise Unavailable(
                f"it asks leave for `{question.what}`, and nobody is there to answer",
                next=_unattended(workspace),
            )
        else:
            given = await self._by_person(name, question)
        self._append(PermissionAnswered(name, given.option, given.by), task=id.task, attempt=id.attempt)
        return given

    async def choose(self, task: str, question: Question, moot: asyncio.Event) -> Answer | None:
        """Have a person choose between a question's options; None where it is moot before anybody has answered.

        Raises `Unavailable` where nobody is there to ask.
        """
        known = self._chosen.get((task, question.what, question.detail[:MOST_DETAIL]))
        if known is not None and known.option in question.options:
            return known
        if not self._is_attended:
            raise Unavailable(f"it asks about a {question.what}, and nobody is there to answer", next=ATTEND)
        name = self._put(question, task)
        async with asyncio.TaskGroup() as group:
            withdrawing = group.create_task(self._withdraw(name, moot))
            given = await self._by_person(name, question)
            withdrawing.cancel()
        self._append(PermissionAnswered(name, given.option, given.by), task=task)
        return None if given is WITHDRAWN else given

    async def _withdraw(self, name: str, moot: asyncio.Event) -> None:
        await moot.wait()
        waiting = self._open.get(name)
        if waiting is not None and not waiting.answered.done():
            waiting.answered.set_result(WITHDRAWN)

    def _put(self, question: Question, task: str, attempt: int | None = None) -> str:
        """Write a question down; gives its name."""
        self._asked += 1
        name = f"q{self._asked}"
        asked = PermissionAsked(name, question.what, question.options, question.detail[:MOST_DETAIL])
        self._append(asked, task=task, attempt=attempt)
        return name

    async def _by_person(self, name: str, question: Question) -> Answer:
        waiting = _Open(question, asyncio.get_running_loop().create_future())
        self._open[name] = waiting
        try:
            return await waiting.answered
        finally:
            self._open.pop(name, None)

    def answer(self, name: str, option: str, by: str) -> str:
        """Answer an open question (`runs answer`). Raises `UsageError` where there is none, or no such option."""
        waiting = self._open.get(name)
        if waiting is None or waiting.answered.done():
            known = ", ".join(f"`{each}`" for each in self._open) or "none is open"
            raise UsageError(f"there is no open question `{name}`", next=f"open questions: {known}")
        if option not in waiting.question.options:
            shown = ", ".join(f"`{each}`" for each in waiting.question.options)
            raise UsageError(f"`{option}` is no answer to `{name}`", next=f"answer one of {shown}")
        waiting.answered.set_result(Answer(option, by))
        return f"answered `{name}`: {option}"


class RunCoordinator:
    """What attempts may ask of their run (`executors.base.Coordinator`): permits, and answers."""

    def __init__(
        self,
        permit: Callable[[AttemptId, LimitKey, int], Awaitable[Permit]],
        ask: Callable[[AttemptId, Question, Workspace | None], Awaitable[Answer]],
    ) -> None:
        self._permit = permit
        self._ask = ask

    async def permit(self, id: AttemptId, key: LimitKey, tokens: int) -> Permit:
        return await self._permit(id, key, tokens)

    async def ask(self, id: AttemptId, question: Question, workspace: Workspace | None = None) -> Answer:
        return await self._ask(id, question, workspace)
