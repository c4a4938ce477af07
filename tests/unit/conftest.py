"""Unit tests have no clock: a busy machine does not make an example of Hypothesis wrong."""

from hypothesis import settings

settings.register_profile("docmill", deadline=None)
settings.load_profile("docmill")
