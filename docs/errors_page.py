"""Writes docs/errors.md from the table of errors: python3 docs/errors_page.py > docs/errors.md"""

from __future__ import annotations

from cni_macvlan_egress.protocol.errors import TABLE

HEAD = """\
# Errors

<!-- made by docs/errors_page.py from the table in cni_macvlan_egress/protocol/errors.py -->

The plugin answers with the CNI error object: `code`, `msg` (what is wrong and what to do) and often `details`.
Kubernetes shows the message in the pod's events, the log file has it with the container ID. Codes below 100 are the
CNI specification's.

| code | name | when | what to do |
| --- | --- | --- | --- |
"""


def page() -> str:
    """The whole page."""
    rows = (f"| {code} | {name} | {when} | {cure} |\n" for code, (name, when, cure) in sorted(TABLE.items()))
    return HEAD + "".join(rows)


if __name__ == "__main__":
    print(page(), end="")
