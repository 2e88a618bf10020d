"""A Service of the cluster, made on a node of the rules that kube-proxy would make there."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .sockets import version_of

if TYPE_CHECKING:
    from .node import Node

_numbers = itertools.count(1)


class Service:
    """A cluster IP that leads to a pod, from other pods and from the node itself.

    Args:
        ports: those of the Service; the pod's are the same unless `target_port` says otherwise.
        masquerade: the pod sees the node's address instead of the client's.
    """

    def __init__(
        self,
        node: Node,
        address: str,
        ports: Sequence[int],
        *,
        protocol: str = "tcp",
        target_port: int | None = None,
        masquerade: bool = False,
    ) -> None:
        self._node = node
        self._table = f"inet service{next(_numbers)}"
        self._word = "ip6" if version_of(address) == 6 else "ip"
        numbers = ", ".join(map(str, ports))
        self._match = f"{self._word} daddr {address} {protocol} dport {{ {numbers} }}"
        self._target_port = target_port
        self._masquerade = masquerade

    def lead_to(self, endpoint: str) -> None:
        """Lead to a pod's address, in one step from the one before; flows that exist keep theirs."""
        address = f"[{endpoint}]" if self._word == "ip6" else endpoint
        target = f"{address}:{self._target_port}" if self._target_port else address
        translate = f"{self._match} dnat {self._word} to {target}"
        masquerade = f"{self._word} daddr {endpoint} ct status dnat masquerade" if self._masquerade else ""
        self._node.run(
            "nft",
            "-f",
            "-",
            stdin=f"""
                table {self._table}
                delete table {self._table}
                table {self._table} {{
                    chain prerouting {{
                        type nat hook prerouting priority dstnat; policy accept;
                        {translate}
                    }}
                    chain output {{
                        type nat hook output priority -100; policy accept;
                        {translate}
                    }}
                    chain postrouting {{
                        type nat hook postrouting priority srcnat; policy accept;
                        {masquerade}
                    }}
                }}
            """,
        )
