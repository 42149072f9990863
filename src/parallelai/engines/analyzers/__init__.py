"""Static analysers: Ruff, and the tools that the user configured."""
