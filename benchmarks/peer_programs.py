"""What runs inside the environments of the peers: 1,000 prompts to one server, 100 at once, as each is written for it.

Run by that environment's own Python, without this project: `python peer_programs.py NAME PORT COUNT AT_ONCE FOLDER`.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
from pathlib import Path

SOURCE = "def total(prices):\n    result = 0\n    for price in prices:\n        result += price\n    return result\n"


def prompt(number: int) -> str:
    return f"Review src/part{number}.py and give your findings as JSON:\n# part {number}\n{SOURCE}"


def pydantic_ai(url: str, count: int, at_once: int, folder: Path) -> None:
    from pydantic_ai import Agent
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    agent = Agent(OpenAIChatModel("small", provider=OpenAIProvider(base_url=url, api_key="none")))
    places = asyncio.Semaphore(at_once)

    async def ask(number: int) -> str:
        async with places:
            return str((await agent.run(prompt(number))).output)

    async def ask_all() -> None:
        await asyncio.gather(*(ask(number) for number in range(count)))

    asyncio.run(ask_all())


def inspect_ai(url: str, count: int, at_once: int, folder: Path) -> None:
    os.environ["OPENAI_API_KEY"] = "none"
    from inspect_ai import Task, eval
    from inspect_ai.dataset import Sample
    from inspect_ai.solver import generate

    task = Task(
        dataset=[Sample(input=prompt(number), id=number) for number in range(count)], solver=generate()
    )
    logs = eval(
        task,
        model="openai/small",
        model_base_url=url,
        model_args={"responses_api": False},
        max_connections=at_once,
        max_samples=at_once,
        display="none",
        log_dir=str(folder / "logs"),
    )
    if logs[0].status != "success":
        raise RuntimeError(f"inspect_ai: {logs[0].status}: {getattr(logs[0].error, 'message', '')}")


def main() -> None:
    name, port, count, at_once, folder = sys.argv[1:6]
    run = {"pydantic_ai": pydantic_ai, "inspect_ai": inspect_ai}[name]
    run(f"http://127.0.0.1:{port}/v1", int(count), int(at_once), Path(folder))
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps({"cpu": used.ru_utime + used.ru_stime}))


if __name__ == "__main__":
    main()
