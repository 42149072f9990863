"""Gates that cannot be run for one of several, such as a review that nobody can pay for: what others came to stays."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from gates_support import bench
from landing_support import Field, Files, Gate, landed
from repositories import Repository as Checkout

from parallelai.errors import Unavailable
from parallelai.plan import model
from parallelai.records import ErrorRecord
from parallelai.work.landing.records import Plan, Verdict


class Unable(Gate):
    """Cannot look at what holds a file that is called so."""

    async def judge(self, commit: str, base: str, names: tuple[str, ...]) -> Verdict:
        if "unable" in await self.files(commit):
            return Verdict(False, error=ErrorRecord("unavailable", "nobody can look at it"))
        return await super().judge(commit, base, names)


def good(files: Files) -> bool:
    return True


@pytest.mark.parametrize("method", ["squash", "rebase"])
def test_what_passed_before_it_lands(tmp_path: Path, method: Literal["squash", "rebase"]) -> None:
    field = Field(tmp_path / "repo", {"a.txt": "a\n"})
    branches = [field.branch(name, {name: "1"}) for name in ("one", "two", "unable", "zero")]

    gate = Unable(field.repository, good)
    arrivals = field.land(branches, gate, plan=Plan("main", method=method), parallel=4)

    assert landed(arrivals) == {"one", "two"}
    assert field.files().keys() == {"a.txt", "one", "two"}
    errors = [arrivals[name].error for name in ("unable", "zero")]
    assert [error and error.said for error in errors] == ["nobody can look at it"] * 2


def test_a_review_that_could_not_be_done_is_tried_again(tmp_path: Path) -> None:
    user = Checkout.start(tmp_path / "user")
    asked: list[str] = []
    base = user.commit({"a": "1"})

    async def reviewer(base: str, commit: str, gate: model.ReviewGate) -> tuple[int, str]:
        asked.append(commit)
        if len(asked) == 1:
            raise Unavailable("no money")
        return 0, "good"

    async def scenario() -> None:
        gate = {"review": "code-review", "model": "best", "fail_on": "high"}
        async with bench(user.root, tmp_path / "state", gate, review=reviewer) as b:
            first = await b.judge.judge(base, base, ("one",))
            second = await b.judge.judge(base, base, ("one",))
        assert (first.ok, second.ok) == (False, True)

    Field.run(scenario())
