"""The long-running process that serves the launcher's calls."""
