"""Values that mean something to the plugin, good ones and those at the edge."""

from __future__ import annotations

from random import Random

from ..mutations import words
from ..mutations.documents import choice, listed

ADDRESSES = (
    "192.168.12.99", "192.168.12.99/24", "192.168.12.0/24", "192.168.12.255/24", "192.168.12.1", "10.0.0.0/8",
    "0.0.0.0",
    "0.0.0.0/0", "255.255.255.255", "127.0.0.1", "169.254.1.1", "224.0.0.1", "203.0.113.25", "198.51.100.7/31",
    "1.2.3.4/33",
    "1.2.3.4/032", "01.2.3.4", "1.2.3", "fd00:12::99/64", "fd00:12::1", "fe80::1", "fe80::1%eth0", "::", "::1",
    "::ffff:192.0.2.1", "::ffff:0:0/96", "ff02::1", "2001:db8:113::25", "2001:db8::/32", "2001:db8::/129",
    "64:ff9b::1.2.3.4",
)  # fmt: skip
NAMES = (
    "example.com", "api.example.com.", "*.example.com", "*", "xn--bcher-kva.example", "bücher.example", "localhost",
    "a.b",
    "-a.example", "a-.example", "a..b", ".", "1.2.3.4.5", "example.123", f"{'a' * 63}.com", f"{'a' * 64}.com",
    ".".join(["a" * 60] * 5), "EXAMPLE.com", "kubernetes.default.svc.cluster.local",
)  # fmt: skip
INTERFACES = (
    "eth0",
    "macvlan0",
    "auto",
    "lo",
    "a" * 15,
    "a" * 16,
    ".",
    "..",
    "a/b",
    "a:b",
    "a b",
    "eth\u00e9",
    "net1",
    "",
)
MACS = (
    "02:00:5e:10:00:01",
    "02-00-5E-10-00-01",
    "01:00:5e:00:00:01",
    "00:00:00:00:00:00",
    "ff:ff:ff:ff:ff:ff",
    "2:0:0",
)
PODS = ("shop", "cart", "kube-system", "a" * 63, "a" * 64, "-a", "a.b", "A", "../x", "", "shop\ncart")
PATHS = (
    "/run/fuzz/state", "/run/fuzz/run", "/run/fuzz/plugin.log", "/run/fuzz/policies", "/run/fuzz/annotations",
    "/run/fuzz/kubeconfig", "/run/fuzz", "/run/fuzz/../etc", "/", "relative", "/proc/self/mem", "/dev/null",
    "/run/fuzz/a\0b",
    "/run/fuzz/" + "a" * 300, "/run/fuzz/\ud800", "/nowhere/at/all",
)  # fmt: skip

address = choice(*ADDRESSES)
name = choice(*NAMES)
interface = choice(*INTERFACES)
mac = choice(*MACS)
pod = choice(*PODS)
path = choice(*PATHS)


def port(random: Random) -> str:
    """A port, a range of them, or something like that."""
    return random.choice(
        ("443", "80", "1", "65535", "0", "65536", "8000-8010", "80-79", "-1", "1-", "08", "00443", "٣")
    )


def destination(random: Random) -> str:
    """A line of destinations."""
    target = random.choice(ADDRESSES + NAMES)
    if random.random() < 0.3:
        target = f"{target},{random.choice(ADDRESSES)}"
    if random.random() < 0.2:
        return target
    line = [port(random), random.choice(("tcp", "udp", "sctp", "TCP", "icmp", "tcp ")), target]
    return " ".join([*line, port(random)] if random.random() < 0.3 else line)


def destinations(random: Random) -> str:
    """Some lines of destinations."""
    return "\n".join(
        random.choice((destination(random), destination(random), "# why", ""))
        for _ in range(random.randint(1, 5))
    )


def pair(random: Random) -> str:
    """One of CNI_ARGS."""
    key = random.choice(
        (
            "IgnoreUnknown",
            "K8S_POD_NAMESPACE",
            "K8S_POD_NAME",
            "K8S_POD_UID",
            "K8S_POD_INFRA_CONTAINER_ID",
            "IP",
            "MAC",
            "X",
        )
    )
    return f"{key}={random.choice((*PODS, '1', 'true', '192.168.12.99/24', *MACS))}"


ANNOTATIONS = {
    "pod.network.openshift.io/assign-macvlan": choice(
        "true", "false", "", " true ", "True", interface, True, None
    ),
    "macvlan-egress/source": choice(
        address, "192.168.12.99/24", "192.168.12.99/24, fd00:12::99/64", "fd00:12::99"
    ),
    "macvlan-egress/gateway": choice(address, "192.168.12.1", "192.168.12.1,fd00:12::1"),
    "macvlan-egress/destination": choice(destinations),
    "macvlan-egress/routes": choice("destinations", "default", "none"),
    "macvlan-egress/mac": choice("kernel", "address", mac),
    "macvlan-egress/mtu": choice("1500", "68", "67", "1280", "65536", "٣", "1e3", 1500),
    "macvlan-egress/mode": choice("bridge", "private", "vepa", "passthru", "source"),
    "macvlan-egress/sauce": choice("x"),
    "example.com/other": choice("x", words.number),
}


def annotations(random: Random) -> object:
    """A pod's annotations."""
    keys = random.sample(sorted(ANNOTATIONS), random.randint(0, 6))
    return {key: ANNOTATIONS[key](random) for key in keys}


def interfaces_of_result(random: Random) -> object:
    """An interface in a result."""
    return {
        "name": interface(random),
        "mac": mac(random),
        "sandbox": random.choice(("", "/run/fuzz/netns/pod", 1)),
    }


addresses_of_result = choice(
    {"address": "10.244.0.7/24", "interface": 0}, {"version": "4", "address": "10.244.0.7/24"}, {}, 1
)
routes_of_result = choice(
    {"dst": "0.0.0.0/0", "gw": "10.244.0.1"}, {"dst": "::/0", "mtu": 1400, "table": 7}, {"dst": 1}
)


def previous(random: Random) -> object:
    """A prevResult."""
    found: dict[str, object] = {"cniVersion": version(random)}
    if random.random() < 0.3:
        return found | {
            "ip4": choice({"ip": "10.244.0.7/24", "routes": [{"dst": "::/0"}]}, {}, None, 4)(random)
        }
    found["interfaces"] = listed(interfaces_of_result)(random)
    found["ips"] = listed(addresses_of_result)(random)
    found["routes"] = listed(routes_of_result)(random)
    return found


version = choice(
    "1.1.0", "1.1.0", "1.0.0", "0.4.0", "0.3.1", "0.3.0", "0.2.0", "0.1.0", "9.9.9", "", 1, None, ["1.0.0"]
)
