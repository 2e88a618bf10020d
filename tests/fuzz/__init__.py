"""Hostile input for everything that the plugin reads; docs/fuzzing.md says what has to hold, and how to run it."""
