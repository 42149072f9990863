"""An engine of your own, written in Python: a class with six methods."""

from parallelai import ParallelAI, Task
from parallelai.engines.protocol import (
    Availability,
    Capabilities,
    Estimate,
    FinalEvent,
    Port,
    Request,
    TextEvent,
)
from parallelai.records import FREE, LimitKey, Reply


class Shout:
    """Answers with the prompt's last line, in capitals."""

    name = "shout"
    capabilities = Capabilities(answers=frozenset({"text"}))

    async def detect(self) -> Availability:
        """Say whether it can work here; starts nothing."""
        return Availability(True, "always here")

    def limit_key(self, request: Request) -> LimitKey:
        """Say which limit a request counts for."""
        return LimitKey(self.name)

    def estimate(self, request: Request) -> Estimate:
        """Say what a request will take: nothing."""
        return Estimate()

    async def perform(self, request: Request, port: Port) -> Reply:
        """Do one turn: report what happens to the port, and give the reply."""
        text = request.prompt.strip().splitlines()[-1].upper()
        await port.emit(TextEvent(text))
        await port.emit(FinalEvent(ok=True))
        return Reply(text=text, usage=FREE)

    def attach(self, session: str) -> list[str] | None:
        """Has no sessions that a person could open."""
        return None

    async def aclose(self) -> None:
        """Holds nothing."""


result = ParallelAI().execute(tasks=[Task(id="hey", description="hello from my engine")], engine=Shout())
print(result.tasks[0].text)
