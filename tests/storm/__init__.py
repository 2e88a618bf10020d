"""Storms of calls and faults, a model of what each attachment may be, and the long run (docs/storm.md)."""
