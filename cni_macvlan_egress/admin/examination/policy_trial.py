"""Installs the rules of an egress policy with every kind of thing in it."""

from __future__ import annotations

import ipaddress

from ...decide.egress import Surroundings
from ...decide.enforced import Applied, Enforced, rebuilt
from ...decide.enforcement import TABLE, compile_policy
from ...decide.guard import Guard, Guest
from ...decide.interfaces import MainInterface
from ...decide.plan import Plan
from ...kernel.netlink import Netlink
from ...kernel.nftables import Nftables
from ...model.policy import Policy, PolicyRule, Port
from .throwaway import make_nic

_NAMESPACE = "try"
_HOST_END = "pod0"
_RULES = (
    PolicyRule(1, allow=True, network=ipaddress.ip_network("203.0.113.0/24"), ports=(Port("tcp", 443),)),
    PolicyRule(2, allow=True, network=ipaddress.ip_network("2001:db8:2::/48")),
    PolicyRule(3, allow=False, network=ipaddress.ip_network("0.0.0.0/0")),
    PolicyRule(4, allow=False, network=ipaddress.ip_network("::/0")),
)


def install(nic: str, plan: Plan) -> str:
    """Hold a pod's main interface and its macvlan to a policy; returns what was done.

    Raises:
        CniError: KERNEL_REFUSED.
    """
    make_nic(_HOST_END)
    surroundings = Surroundings((ipaddress.ip_network("198.51.100.0/24"),), {})
    policy, compiled = compile_policy(Policy(_NAMESPACE, "a trial", _RULES), surroundings, log=True)
    with Netlink() as netlink:
        index = next(one.index for one in netlink.links() if one.name == nic)
    addresses = tuple(one.address.partition("/")[0] for one in plan.addresses)
    guest = Guest("try@eth0", _NAMESPACE, plan.link.mac, addresses)
    main = MainInterface("try@eth0", _NAMESPACE, _HOST_END, "host", plan.link.mac, addresses)
    state = Enforced(
        namespaces={_NAMESPACE: Applied(compiled.generation, policy.title, objects=compiled.objects)},
        mains={main.key: main},
        guards={
            index: Guard(index, nic, (guest,), own=("02:00:00:00:00:01",), networks=("198.51.100.0/24",))
        },
    )
    with Nftables() as nftables:
        steps = rebuilt(state, {_NAMESPACE: compiled})
        for commands in (steps.prepare, steps.switch):
            nftables.run(commands, "install an egress policy")
        rules = sum("rule" in one for one in nftables.objects(TABLE))
    return f"{rules} rules were installed at a pod's interface and at a NIC"
