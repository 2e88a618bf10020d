"""Runs a program with some things mounted that only it sees: `in_mounts.py '["--bind a b", …]' PROGRAM ARGUMENT…`.

`ip netns exec`, by which it is started, has made a mount namespace already.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

for words in json.loads(sys.argv[1]):
    subprocess.run(["mount", *words.split()], check=True)
os.execvp(sys.argv[2], sys.argv[2:])  # noqa: S606
