"""The command lines that a page shows."""

from __future__ import annotations

import re
from pathlib import Path

# What a line begins with to be one. Names alone, such as `ip`, are words of a sentence.
_PROGRAMS = re.compile(
    r"(?:[\w./-]*/)?(?:macvlan-egress|python3?|pip|podman|kubectl|oc|openstack|systemctl|apt|tar|ln|cp|ip|nft|nsenter|source"
    r"|sudo|package|release-check|demo|test|test-kubernetes|test-kernel|fuzz|storm|setup)(?: |$)"
)
_FENCE = re.compile(r"^ *```(?P<language>\w*)\n(?P<body>.*?)^ *```", re.MULTILINE | re.DOTALL)
_REMARK = re.compile(r"(?:^| +)#.*|(?<=\S) {3,}\S.*")
# What only names a command, or leaves something out.
_NO_COMMAND = re.compile(r"[\w./-]+|macvlan-egress [a-z]+(?: (?:validate|explain|status|sync))?|.*….*")


def shown(page: Path) -> list[str]:
    """The command lines of a page in their order, each once; from blocks, and from code in sentences."""
    text = page.read_text()
    found = []
    for block in _FENCE.finditer(text):
        if block["language"] in ("", "sh"):
            found += [_REMARK.sub("", line.strip()) for line in block["body"].splitlines()]
    found += [
        code
        for code in re.findall(r"(?<!`)`([^`\n]+)`", _FENCE.sub("", text))
        if not _NO_COMMAND.fullmatch(code)
    ]
    return list(dict.fromkeys(line for line in found if _PROGRAMS.match(line)))
