"""Draws the network as the kernel has it, in plain text below 80 columns."""

from __future__ import annotations

from collections.abc import Mapping

from ...decide.facts import HostFacts, LinkFact
from .canvas import Canvas
from .network import BRIDGE, LAN, OUTSIDE, POD_BRIDGE, ROUTER
from .report import WIDTH, Report

_NIC = 18  # column of the node's NIC, and of the macvlan below it
_ROUTER = 34
_PODS = (range(2, 39), range(40, 77))
_POD_BRIDGE = 54
_POD_LEG = 30  # where a pod's eth0 leaves its frame, from the frame's left edge
_LAN_ROW, _NODE_ROW = 4, 6
_WAYS_ROW = _NODE_ROW + 2
_POD_ROW = _WAYS_ROW + 2


def draw(report: Report, facts: Mapping[str, HostFacts]) -> list[str]:
    """The LAN, the node and its pods; the heavy line is a macvlan's way to the LAN."""
    canvas = Canvas(WIDTH)
    pods = {role: found for role, found in facts.items() if role.startswith("pod ")}
    lowest = _POD_ROW + 2 * max(len(_shown(found)) for found in pods.values()) + 2
    _draw_lan(canvas, facts["lan"])
    _draw_node(canvas, facts["node"], lowest)
    for (role, found), columns in zip(pods.items(), _PODS, strict=True):
        canvas.box(range(_POD_ROW, lowest), columns, role)
        _draw_pod(canvas, found, columns.start)
    return canvas.lines(report)


def _draw_lan(canvas: Canvas, lan: HostFacts) -> None:
    canvas.column(range(_LAN_ROW), _ROUTER, "│")
    canvas.put(0, _ROUTER, f"● outside host {OUTSIDE}")
    canvas.put(2, _ROUTER, f"● router {_address(lan, BRIDGE, ROUTER)}")
    label = f" LAN {LAN}"
    canvas.put(_LAN_ROW, 0, "═" * (WIDTH - len(label)) + label)
    canvas.put(_LAN_ROW, _ROUTER, "╧")
    canvas.put(_LAN_ROW, _NIC, "╤")


def _draw_node(canvas: Canvas, node: HostFacts, lowest: int) -> None:
    canvas.box(range(_NODE_ROW, lowest + 1), range(WIDTH), "node")
    canvas.column(range(_LAN_ROW + 1, _NODE_ROW), _NIC, "│")
    canvas.put(_NODE_ROW, _NIC, "┴")
    nic = f"eth0 {_address(node, 'eth0')}"
    bridge = f"{POD_BRIDGE} {_address(node, POD_BRIDGE)}"
    canvas.put(_NODE_ROW + 1, _NIC, f"{nic} ╌ routed ".ljust(_POD_BRIDGE - _NIC - 4, "╌") + f" {bridge}")
    legs = [columns.start + _POD_LEG for columns in _PODS]
    canvas.put(_WAYS_ROW + 1, legs[0], f"┌{'─' * (legs[-1] - legs[0] - 1)}┐")
    canvas.put(_WAYS_ROW, _POD_BRIDGE, "│")
    canvas.put(_WAYS_ROW + 1, _POD_BRIDGE, "┴")


def _draw_pod(canvas: Canvas, pod: HostFacts, left: int) -> None:
    canvas.put(_POD_ROW, left + _POD_LEG, "┴")
    row = _POD_ROW + 1
    for link in _shown(pod):
        style = "green" if link.kind == "macvlan" else ""
        canvas.put(row, left + 2, f"{link.name:<9} {_address(pod, link.name)}", style)
        canvas.put(row + 1, left + 2, f"{'':<9} {link.mac}", style)
        row += 2
        if link.kind == "macvlan":
            canvas.column(range(_WAYS_ROW, _POD_ROW), _NIC, "┃", style)
            canvas.put(_WAYS_ROW, _NIC + 2, "macvlan", style)
            canvas.put(_POD_ROW, _NIC, "┸", style)


def _shown(pod: HostFacts) -> list[LinkFact]:
    """A pod's interfaces, the macvlan first: it stands below the line that leads to it."""
    return sorted(
        (link for link in pod.links if not link.loopback),
        key=lambda link: (link.kind != "macvlan", link.index),
    )


def _address(facts: HostFacts, interface: str, otherwise: str = "no address") -> str:
    return next(iter(facts.addresses_of(interface)), otherwise)
