"""Review files from Python, and look at what was found."""

from parallelai import ParallelAI

ai = ParallelAI()
result = ai.review("examples/shop/src/*.py", engine="analyzers", parallel=50)

for finding in result.findings:
    print(f"{finding.file}:{finding.line[0]} {finding.severity} {finding.message}")
print(f"{len(result.findings)} findings in {len(result.files.covered)} files")
