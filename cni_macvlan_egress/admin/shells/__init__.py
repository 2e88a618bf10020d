"""Completion scripts, one module a shell: each has script(whole), which makes one of the tree of commands."""
