"""Settings of the property tests: as many examples on a slow machine as on a fast one."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("unit", deadline=None, max_examples=40, print_blob=True)
settings.load_profile("unit")
