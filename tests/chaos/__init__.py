"""The chaos suite: breaks a running deployment in every way we can think of, and counts what is lost or copied.

`make chaos`, or `python -m tests.chaos --help`. Each trial has servers of its own; nothing outside is touched.
"""
