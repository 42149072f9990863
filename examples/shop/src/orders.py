"""Keeps the orders in a file."""

import pickle
from pathlib import Path


def load(path: Path) -> list[dict[str, int]]:
    """Read the orders."""
    with path.open("rb") as file:
        return pickle.load(file)


def total(orders: list[dict[str, int]]) -> int:
    """Add up what was sold, in cents."""
    return sum(order["cents"] for order in orders)
