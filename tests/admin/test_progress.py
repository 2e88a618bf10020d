"""What takes longer than a second says meanwhile what it looks at."""

from __future__ import annotations

import socket
from contextlib import closing
from pathlib import Path

from lab import Lab, within
from lab.network import OUTSIDE4

from .terminal import Terminal

POLICY = """\
apiVersion: network.openshift.io/v1
kind: EgressNetworkPolicy
metadata: {name: default, namespace: shop}
spec:
  egress: [{type: Allow, to: {dnsName: api.bank.example}}, {type: Deny, to: {cidrSelector: 0.0.0.0/0}}]
"""


def _silent_name_server(lab: Lab) -> socket.socket:
    def bound() -> socket.socket:
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.bind((OUTSIDE4, 53))
        return made

    return within(lab.outside.path, bound)


def test_wait_for_a_name_server_is_explained(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text(POLICY)
    (tmp_path / "resolv.conf").write_text(f"nameserver {OUTSIDE4}\n")
    explain = f"policy explain -f {tmp_path}/policy.yaml shop api.bank.example"
    script = (
        f"mount --bind {tmp_path}/resolv.conf /etc/resolv.conf && exec {lab.bin_dir}/macvlan-egress {explain}"
    )
    argv = ["ip", "netns", "exec", lab.node.name, "unshare", "--mount", "sh", "-ec", script]
    with closing(_silent_name_server(lab)), Terminal(argv) as terminal:
        shown = "looking at documents and names …"
        assert terminal.read_until(shown) == shown
        terminal.read_until("api.bank.example: no address is known")
