"""Clients of services that are paid by the token, one a file, and what they share: when to try again."""
