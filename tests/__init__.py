"""A package, so that tests of every kind can import `tests.services`."""
