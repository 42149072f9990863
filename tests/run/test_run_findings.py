"""What tasks see of the findings of others: what the run's own list shows, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

from parallelai import Task
from parallelai.engines.protocol import Capabilities, Port, Request
from parallelai.records import FREE, Finding, Reply, Severity
from running import FakeEngine, opened, project, statuses

QUOTES = ("a = 1", "made = up", "b = 2")


async def test_dependents_see_no_finding_that_was_refuted_or_quotes_code_that_is_nowhere(
    tmp_path: Path,
) -> None:
    project(tmp_path, {"x.py": "a = 1\nb = 2\n"})

    async def review(request: Request, port: Port) -> Reply:
        quotes = QUOTES if request.task == "review" else QUOTES[1:2]
        found = [Finding("x.py", (1, 1), Severity.HIGH, f"about {quote}", quote=quote) for quote in quotes]
        return Reply(findings=tuple(found), usage=FREE)

    async def refute(request: Request, port: Port) -> Reply:
        rows = re.findall(r"Finding (\d+) .*\n`+\nabout (\w)", request.prompt)
        verdict = {"a": "refuted", "m": "holds", "b": "holds"}
        verdicts = [{"id": n, "why": "the line above says so", "verdict": verdict[name]} for n, name in rows]
        return Reply(data={"verdicts": verdicts}, usage=FREE)

    model = FakeEngine("model", review, capabilities=Capabilities(takes_text=True))
    words = "{{ tasks['review'].findings | map(attribute='message') | join(',') }}"
    review_of = {"description": "x", "files": "x.py", "output": "findings", "engine": "model"}
    plan = [
        Task(id="review", verify="judge", **review_of),
        Task(id="made-up", **review_of),
        Task(id="sum", description=words, engine="writer", depends_on=("review",)),
        Task(
            id="fix",
            description="x",
            engine="writer",
            depends_on=("made-up",),
            when="tasks['made-up'].findings",
        ),
    ]
    writer = FakeEngine("writer")
    async with opened(tmp_path, model, FakeEngine("judge", refute), writer) as ai:
        document = await ai.execute(tasks=plan)
    assert statuses(document) == {"review": "ok", "made-up": "ok", "sum": "ok", "fix": "skipped"}
    (request,) = writer.requests
    assert "about b = 2" in request.prompt
    assert "made" not in request.prompt
    assert "about a" not in request.prompt
    assert [one.message for one in document.findings if one.state == "open"] == ["about b = 2"]
