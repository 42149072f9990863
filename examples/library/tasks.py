"""Carry out tasks that are made in Python, with dependencies between them."""

from parallelai import DAGStrategy, MultiEngine, ParallelAI, Task

tasks = [Task(id=f"part-{number}", description=f"Do part {number}.") for number in range(10)]
tasks.append(
    Task(id="together", description="Put the parts together.", depends_on=[task.id for task in tasks])
)

ai = ParallelAI()
result = ai.execute(tasks=tasks, strategy=DAGStrategy(), engine=MultiEngine(["mock"]), parallel=100)

for task in result.tasks:
    print(task.id, task.status, task.text)
