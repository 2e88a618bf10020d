"""`macvlan-egress demo`: a play in throwaway namespaces, with real packets.

The stage is a network (theatre/network.py), the players are the real executable and the kernel; what they do
is compared with what they should do, and shown. A scene more is a function and its line in SCENES.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field

from ..decide.facts import HostFacts
from ..kernel.nftables import Nftables
from ..protocol.errors import DRIFT, IO_FAILURE, KERNEL_REFUSED, CniError
from . import status
from .theatre import inventory, picture, tables, traffic
from .theatre.capture import Capture, Frame
from .theatre.interruption import Interrupted, Interruption
from .theatre.namespace import Namespace, index_of
from .theatre.network import NODE_PORT, OUTSIDE, ROUTER, SERVICE, SOURCE, Network, Pod
from .theatre.report import CutShort, Report
from .theatre.runtime import Runtime

_INTRUDERS_PATIENCE_SECONDS = 1.0


@dataclass
class Stage:
    """What every scene plays with.

    Attributes:
        lan: sees every frame at the node's port of the LAN's switch.
        before: what was in each namespace before the plugin came.
    """

    network: Network
    runtime: Runtime
    lan: Capture
    report: Report
    interruption: Interruption
    before: dict[str, HostFacts] = field(default_factory=dict)

    @property
    def egress(self) -> Pod:
        """The annotated pod."""
        return self.network.pods[0]

    @property
    def plain(self) -> Pod:
        """The pod that asks for nothing."""
        return self.network.pods[1]

    def ask(self, sender: Pod, witness: Namespace, address: str, by: str = "") -> str:
        """The source address that a witness sees when a pod sends to it."""
        return traffic.ask(sender.namespace, witness, address, self.interruption, by=by)

    def intrude(self) -> str:
        """What the router gets to hear that sends to the egress address by itself."""
        witness, patience = self.egress.namespace, _INTRUDERS_PATIENCE_SECONDS
        return traffic.ask(self.network.lan, witness, SOURCE, self.interruption, patience=patience)


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--json", action="store_true", help="print the steps and their results for a machine")


def run(arguments: argparse.Namespace) -> int:
    """Play; 0 if all went as it should.

    Raises:
        CniError: there is nothing to play on.
    """
    if os.geteuid() != 0:
        raise CniError(KERNEL_REFUSED, "only root can make network namespaces; run it with sudo")
    report = Report(quiet=arguments.json)
    with Interruption() as interruption:
        try:
            packets = _play(report, interruption)
            interruption.check()
        except Interrupted as end:
            sys.stderr.write(f"macvlan-egress demo: {end}; its namespaces are removed\n")
            return end.status
        except BrokenPipeError:
            raise
        except OSError as error:
            raise CniError(IO_FAILURE, f"the demo cannot go on: {error}") from None
    if arguments.json:
        print(json.dumps(report.document(packets), indent=2, ensure_ascii=False))
    else:
        _take_a_bow(report)
    return 1 if report.failures else 0


def _play(report: Report, interruption: Interruption) -> list[Frame]:
    """Build, play every scene, and clear away; returns the packets seen."""
    with tempfile.TemporaryDirectory(prefix="macvlan-egress-demo-") as directory, Network() as network:
        for _ in network.build():
            interruption.check()
        runtime = Runtime(network, directory, interruption)
        with Capture(network.lan, NODE_PORT) as lan:
            _play_scenes(Stage(network, runtime, lan, report, interruption))
            packets = lan.frames()
    report.expect("namespaces left of the demo", "none", ", ".join(network.left()) or "none")
    return packets


def _play_scenes(stage: Stage) -> None:
    try:
        for title, scene in SCENES:
            stage.interruption.check()
            stage.report.scene(title)
            scene(stage)
    except CutShort:
        stage.report.say("What follows needs this and is left out.")
    except CniError as error:
        stage.report.expect("the scene goes on", "to its end", str(error))


def _before(stage: Stage) -> None:
    report, network = stage.report, stage.network
    report.say(
        "In throwaway namespaces: a node, its LAN with a router, and a host behind the router. The main CNI "
        "has given two pods their eth0; they ask the outside host which source address it sees."
    )
    for pod in network.pods:
        report.require(f"pod {pod.name} is seen as", pod.address, stage.ask(pod, network.outside, OUTSIDE))
    stage.before = network.facts()


def _add(stage: Stage) -> None:
    report, egress, plain = stage.report, stage.egress, stage.plain
    report.say("The runtime calls the plugin for both pods. Pod egress has annotations, pod plain has none:")
    report.show(
        *(f"    {report.paint(f'{key}: {value}', 'cyan')}" for key, value in egress.annotations.items())
    )
    result_of_main = plain.result
    stage.lan.restart()
    for pod in stage.network.pods:
        answer = stage.runtime.call("ADD", pod)
        report.require(f"ADD of pod {pod.name} ({answer.milliseconds} ms)", "success", answer.outcome)
    report.expect("addresses on macvlan0 in the result", f"{SOURCE}/24", egress.addresses("macvlan0"))
    changed = "nothing" if plain.result == result_of_main else json.dumps(plain.result)
    report.expect("in pod plain's result the plugin changed", "nothing", changed)

    after = stage.network.facts()
    changes = inventory.differences(stage.before, after)
    unwanted = [line for line in changes if not line.startswith("pod egress: +")]
    report.expect("on the node and elsewhere it changed", "nothing", inventory.or_nothing(unwanted))
    heard = stage.lan.wait(lambda frame: frame.what == "announcement" and frame.source == SOURCE)
    own_mac = inventory.mac(after["pod egress"], "macvlan0")
    report.expect(f"the LAN hears that {SOURCE} is now at", own_mac, heard.mac if heard else "nobody tells")
    report.show("", *picture.draw(report, after))
    for pod in stage.network.pods:
        role = f"pod {pod.name}"
        report.show("", *tables.possessions(report, role, stage.before[role], after[role]))


def _send(stage: Stage) -> None:
    report, network, egress, plain = stage.report, stage.network, stage.egress, stage.plain
    report.say(
        f"Again they ask by UDP which source address is seen. Pod plain sends to service {SERVICE}, which stands "
        f"for pod egress, which sends on to {OUTSIDE}. All that is no destination goes as it went."
    )
    for what, pod, witness, address, by, expected in (
        (f"plain → {SERVICE} → egress: outside sees", plain, network.outside, OUTSIDE, SERVICE, SOURCE),
        ("egress itself: outside sees", egress, network.outside, OUTSIDE, "", SOURCE),
        (f"egress: router {ROUTER} sees", egress, network.lan, ROUTER, "", egress.address),
        ("plain: outside sees", plain, network.outside, OUTSIDE, "", plain.address),
    ):
        report.expect(what, expected, stage.ask(pod, witness, address, by))
    heard = stage.intrude()
    report.expect(f"router → {SOURCE}: the pod answers", "nothing", heard, passed=heard.startswith("nothing"))
    report.show("", *(f"  {line}" for line in status.table(stage.runtime.survey())))

    facts, frames = network.facts(), stage.lan.frames()
    report.show("", "  Seen on the LAN since the ADD:", *tables.packets(report, frames, facts), "")
    for address, owner, role, interface in (
        (SOURCE, "the pod's own", "pod egress", "macvlan0"),
        (egress.address, "the node's", "node", "eth0"),
        (plain.address, "the node's", "node", "eth0"),
    ):
        macs = {frame.mac for frame in frames if frame.source == address}
        report.expect(
            f"{address} is used with {owner} MAC",
            inventory.mac(facts[role], interface),
            ", ".join(sorted(macs)) or "not seen",
        )


def _check(stage: Stage) -> None:
    report = stage.report
    for pod in stage.network.pods:
        report.expect(f"CHECK of pod {pod.name}", "success", stage.runtime.call("CHECK", pod).outcome)
    report.say("Somebody lowers the MTU of the pod's macvlan0 to 1400:")
    stage.egress.namespace.configure(
        "set the MTU of macvlan0",
        lambda ip: ip.link("set", index=index_of(ip, "macvlan0"), mtu=1400),
    )
    answer = stage.runtime.call("CHECK", stage.egress)
    noticed = answer.result.get("code") == DRIFT and "mtu" in answer.outcome
    report.expect("CHECK of pod egress", f"error {DRIFT} that names the MTU", answer.outcome, passed=noticed)


def _delete(stage: Stage) -> None:
    report, network, runtime = stage.report, stage.network, stage.runtime
    records = len(runtime.records())
    report.expect("state files before it", "some", records, passed=records > 0)
    for pod in reversed(network.pods):
        report.expect(f"DEL of pod {pod.name}", "success", runtime.call("DEL", pod).outcome)
    report.expect("DEL of pod egress once more", "success", runtime.call("DEL", stage.egress).outcome)
    left = inventory.differences(stage.before, network.facts())
    report.expect("links, addresses, routes, rules left", "nothing", inventory.or_nothing(left))
    rules = stage.egress.namespace.run(_rules)
    report.expect("nftables rules left in pod egress", "nothing", rules or "nothing")
    report.expect("state files left", "nothing", inventory.or_nothing(runtime.records()))


def _rules() -> str:
    with Nftables() as nftables:
        return nftables.listing()


SCENES: tuple[tuple[str, Callable[[Stage], None]], ...] = (
    ("Before the plugin", _before),
    ("ADD", _add),
    ("Packets", _send),
    ("CHECK", _check),
    ("DEL", _delete),
)


def _take_a_bow(report: Report) -> None:
    total = len(report.steps)
    if report.failures:
        text = report.paint(f"{report.failures} of {total} expectations were not met.", "red", "bold")
    else:
        text = report.paint(f"All {total} expectations were met.", "green", "bold")
    report.show("", f"  {text}")
