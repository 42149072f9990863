"""Assistants' own programs, run without their screens and read line by line."""
