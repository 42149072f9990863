"""The scheduler: a pure state machine, and what it keeps while it decides."""
