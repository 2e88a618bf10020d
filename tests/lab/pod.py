"""A pod: a namespace whose eth0 some main CNI has made."""

from __future__ import annotations

import itertools
import json
import secrets
import uuid
from typing import TYPE_CHECKING, Any

from .namespace import Namespace

if TYPE_CHECKING:
    from .node import Node
    from .request import Request

# Calico's fixed MAC address of every host end, and the link-local address that follows from it.
HOST_END_MAC, HOST_END_ADDRESS = "ee:ee:ee:ee:ee:ee", "fe80::ecee:eeff:feee:eeee"
CALICO_GATEWAY = "169.254.1.1"
_numbers = itertools.count(2)


class Pod(Namespace):
    """A pod of one node.

    Attributes:
        container_id: of its sandbox, as containerd makes them.
        args: CNI_ARGS as containerd sends them.
        main: which plugin made eth0.
        version: CNI version of its chain.
        previous: the main plugin's result.
        address, address6: on eth0.
        requests: what was sent at ADD, by interface name, completed for CHECK and DEL.
    """

    def __init__(self, node: Node, name: str) -> None:
        super().__init__(name)
        self.node = node
        self.container_id = secrets.token_hex(32)
        self.args = (
            f"IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME={name};"
            f"K8S_POD_INFRA_CONTAINER_ID={self.container_id};K8S_POD_UID={uuid.uuid4()}"
        )
        self.main = ""
        self.version = ""
        self.previous: dict[str, Any] = {}
        self.address = self.address6 = ""
        self.requests: dict[str, Request] = {}

    def connect(self, main: str, version: str, ipv6: bool) -> None:
        """Make eth0."""
        self.main, self.version = main, version
        if main == "calico":
            self._connect_by_hand(ipv6)
        else:
            self._connect_by_plugin(ipv6)
        self.settle("eth0")
        self.node.settle(self._host_end)
        self.sysctl("net/ipv6/conf/default/accept_dad", 1)  # from here on as a pod finds it

    def disconnect(self) -> None:
        """What the chain's first plugin does on DEL, after ours."""
        if self.main == "calico":
            self.node.ip(f"link delete {self._host_end}")
        else:
            self._run_main(
                "DEL", {**self._main_configuration(bool(self.address6)), "prevResult": self.previous}
            )

    @property
    def _host_end(self) -> str:
        if self.main == "calico":
            return f"cali{self.container_id[:11]}"
        return next(str(one["name"]) for one in self.previous["interfaces"] if one["name"].startswith("veth"))

    def _connect_by_hand(self, ipv6: bool) -> None:
        number = next(_numbers)
        self.address = f"10.244.{number >> 8}.{number & 255}"
        host_end = self._host_end
        self.node.ip(f"link add {host_end} address {HOST_END_MAC} type veth peer name eth0 netns {self.name}")
        self.node.sysctl(f"net/ipv4/conf/{host_end}/proxy_arp", 1)
        self.node.sysctl(
            f"net/ipv4/neigh/{host_end}/proxy_delay", 0
        )  # else the first packet waits up to 0.8 s
        self.node.ip(f"link set {host_end} up", f"route add {self.address}/32 dev {host_end} scope link")
        self.ip(
            "link set eth0 up",
            f"address add {self.address}/32 dev eth0",
            f"route add {CALICO_GATEWAY} dev eth0 scope link",
            f"route add default via {CALICO_GATEWAY} dev eth0",
        )
        ips = [{"address": f"{self.address}/32"}]
        if ipv6:
            self.address6 = f"fd00:244::{number:x}"
            self.node.ip(f"route add {self.address6}/128 dev {host_end}")
            self.ip(
                f"address add {self.address6}/128 dev eth0",
                f"route add default via {HOST_END_ADDRESS} dev eth0",
            )
            ips.append({"address": f"{self.address6}/128"})
        if self.version < "1.0.0":
            ips = [{"version": "6" if ":" in ip["address"] else "4", **ip} for ip in ips]
        # As Calico answers: the host end only, and addresses that belong to no listed interface.
        self.previous = {
            "cniVersion": self.version,
            "interfaces": [{"name": host_end}],
            "ips": ips,
            "dns": {},
        }

    def _connect_by_plugin(self, ipv6: bool) -> None:
        self.previous = json.loads(self._run_main("ADD", self._main_configuration(ipv6)))
        for ip in self.previous["ips"]:
            address = ip["address"].split("/")[0]
            if ":" in address:
                self.address6 = address
            else:
                self.address = address

    def _run_main(self, command: str, conf: dict[str, Any]) -> str:
        environment = {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": self.container_id,
            "CNI_NETNS": self.path,
            "CNI_IFNAME": "eth0",
            "CNI_ARGS": self.args,
        }
        answer = self.node.execute(environment, json.dumps(conf), program=self.main, check=False)
        assert answer.status == 0, answer
        return answer.stdout

    def _main_configuration(self, ipv6: bool) -> dict[str, Any]:
        ranges = [[{"subnet": "10.244.0.0/24"}]] + ([[{"subnet": "fd00:244::/64"}]] if ipv6 else [])
        routes = [{"dst": "0.0.0.0/0"}] + ([{"dst": "::/0"}] if ipv6 else [])
        data_dir = f"{self.node.directory}/host-local"
        conf: dict[str, Any] = {
            "cniVersion": self.version,
            "name": "pods",
            "type": self.main,
            "ipam": {"type": "host-local", "ranges": ranges, "routes": routes, "dataDir": data_dir},
        }
        if self.main == "bridge":
            conf |= {"bridge": "cni0", "isGateway": True}
        return conf
