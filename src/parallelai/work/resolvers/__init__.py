"""Who settles a conflict before any model is asked, how that is remembered, and who is asked then.

A resolver is one file and an entry point: a function from a `Conflict` to a text, or None for "don't know".
"""

from parallelai.work.resolvers.records import Conflict, History, Past, Replaced, Resolver, Rung, rung

__all__ = ["Conflict", "History", "Past", "Replaced", "Resolver", "Rung", "rung"]
