"""The files of conf/ exactly as shipped; only what lies under /run, /var/lib and /var/log is the test's own."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml
from lab import ASSIGN, POD_ANNOTATIONS, Answer, Lab, Lan, Namespace, Node, Pod, unchanged
from lab.network import OUTSIDE4
from lab.node import MINIMAL_PATH, TYPE
from lab.service import Service as ClusterService
from lab.traffic import exchange

CONF = Path(__file__).resolve().parent.parent.parent / "conf"
CHAINED = ("10-bridge-macvlan-egress.conflist", "10-ptp-macvlan-egress.conflist")
STANDALONE = "standalone-macvlan.conflist"
NETWORK = "multus-nad.yaml"
EGRESS_POD, ROUTER_POD = "pod-egress.yaml", "pod-openshift-router.yaml"
SERVICE = "service.yaml"
README = "README.md"
POLICIES = {
    "policies/egressnetworkpolicy.yaml": "EgressNetworkPolicy",
    "policies/egressfirewall.yaml": "EgressFirewall",
    "policies/locked-down.yaml": "EgressNetworkPolicy",
}
UNITS = ("macvlan-egress-policy.service", "macvlan-egress.service")
DAEMON_SOCKET = "macvlan-egress.socket"
RIGHTS = "rbac-policy.yaml"  # enforced by the API server of tests/sources/policy_api.py
# These have tests of their own: tests/manifests, tests/daemon/test_container_root.py, tests/packaging.
ELSEWHERE = ("container", "kubernetes", "debian")
TESTED = {
    *CHAINED, STANDALONE, NETWORK, EGRESS_POD, ROUTER_POD, SERVICE, README, *POLICIES, *UNITS, DAEMON_SOCKET, RIGHTS,
}  # fmt: skip
NOT_ALLOWED = 100
PLAIN: dict[str, Any] = {POD_ANNOTATIONS: None}  # what containerd says of a pod without annotations
# What the plugins use unless told otherwise; /run/netns stays as it is.
_PLACES = ("run", "var/lib", "var/log")
_OVER_THE_HOSTS = """\
mount --rbind /run/netns "$0/run/netns"
for place in run var/lib var/log; do mount --rbind "$0/$place" "/$place"; done
exec "$@"
"""


class Chain:
    """A conflist, run plugin by plugin as libcni does; each gets the result of the one before."""

    def __init__(self, node: Node, conflist: dict[str, Any], ifname: str = "eth0") -> None:
        self._node = node
        self.conflist = conflist
        self._ifname = ifname
        self._root = f"{node.directory}/root"
        for place in (*_PLACES, "run/netns"):
            os.makedirs(f"{self._root}/{place}", exist_ok=True)

    def run(
        self,
        verb: str,
        pod: Pod,
        namespace: str = "",
        runtime: dict[str, Any] | None = None,
        previous: dict[str, Any] | None = None,
    ) -> Answer:
        """The last answer, or the first that is an error.

        Args:
            namespace: of Kubernetes, none without it.
            runtime: what the runtime offers to the plugins that declare the capability.
            previous: the final result of the ADD, for CHECK and DEL.
        """
        plugins = self.conflist.get("plugins", [self.conflist])
        answer = Answer(0, "", "")
        for plugin in reversed(plugins) if verb == "DEL" else plugins:
            document = {**plugin, "cniVersion": self.conflist["cniVersion"], "name": self.conflist["name"]}
            declared = plugin.get("capabilities", {})
            offered = {name: value for name, value in (runtime or {}).items() if declared.get(name)}
            document |= {"runtimeConfig": offered} if offered else {}
            document |= {"prevResult": previous} if previous else {}
            answer = self._execute(verb, plugin["type"], pod, namespace, document)
            if answer.status:
                break
            previous = answer.json if verb == "ADD" else previous
        return answer

    def left(self) -> list[str]:
        """The records, claims and leases that are there."""
        folders = [f"{self._root}/var/lib/cni", f"{self._root}/run/cni"]
        paths = [
            Path(path, name) for folder in folders for path, _, names in os.walk(folder) for name in names
        ]
        return sorted(path.name for path in paths if not path.name.startswith(("lock", "last_reserved_ip")))

    def _execute(self, verb: str, program: str, pod: Pod, namespace: str, document: dict[str, Any]) -> Answer:
        args = f"K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={pod.name}" if namespace else ""
        environment = {
            "CNI_COMMAND": verb,
            "CNI_CONTAINERID": pod.container_id,
            "CNI_NETNS": pod.path,
            "CNI_IFNAME": self._ifname,
            "CNI_ARGS": f"IgnoreUnknown=1;{args}".rstrip(";"),
        }
        wrapper = ("unshare", "--mount", "sh", "-ec", _OVER_THE_HOSTS, self._root)
        stdin, ours = json.dumps(document), program == TYPE
        return self._node.execute(environment, stdin, program=program, wrapper=wrapper, check=ours)


@pytest.fixture
def pod(lab: Lab) -> Pod:
    return empty_pod(lab)


@pytest.fixture(params=CHAINED)
def chain(request: pytest.FixtureRequest, node: Node) -> Chain:
    if not shutil.which("iptables", path=MINIMAL_PATH):
        pytest.skip("needs iptables for the main plugins' ipMasq: install the Debian package iptables")
    return Chain(node, json.loads((CONF / request.param).read_text()))


def empty_pod(lab: Lab) -> Pod:
    """One that no plugin has served yet."""
    return lab.keep(Pod(lab.node, lab.name(f"pod{lab.number()}")))


def settle(pod: Pod, result: dict[str, Any]) -> None:
    """Wait until the links of a result have come up on both sides."""
    for interface in result["interfaces"]:
        (pod if interface.get("sandbox") else pod.node).settle(interface["name"])


def manifest(name: str, kind: str) -> dict[str, Any]:
    """The one document of a kind in a file."""
    (found,) = [one for one in yaml.safe_load_all((CONF / name).read_text()) if one["kind"] == kind]
    return found


def asked(name: str) -> tuple[str, dict[str, Any]]:
    """Namespace and annotations of a file's pod, as a runtime hands them on."""
    if name == SERVICE:
        deployment = manifest(name, "Deployment")
        template = deployment["spec"]["template"]
        return deployment["metadata"]["namespace"], {POD_ANNOTATIONS: template["metadata"]["annotations"]}
    metadata = manifest(name, "Pod")["metadata"]
    return metadata["namespace"], {POD_ANNOTATIONS: metadata["annotations"]}


def validate(bin_dir: str, *arguments: str) -> str:
    program = f"{bin_dir}/macvlan-egress"
    done = subprocess.run([program, "validate", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def address_of(result: dict[str, Any], interface: str) -> str:
    """The one address that a result says an interface has."""
    (number,) = [
        number
        for number, one in enumerate(result["interfaces"])
        if (one["name"], bool(one.get("sandbox"))) == (interface, True)
    ]
    (found,) = [ip["address"] for ip in result["ips"] if ip["interface"] == number]
    return str(found)


# -- all of them


def test_every_file_is_tested_here() -> None:
    found = {str(path.relative_to(CONF)) for path in CONF.rglob("*") if path.is_file()}
    assert {name for name in found if name.partition("/")[0] not in ELSEWHERE} == TESTED


def test_readme_explains_every_file_and_no_other() -> None:
    rows = re.findall(r"^\| \[(.+?)\]\((.+?)\) \| \S", (CONF / README).read_text(), re.MULTILINE)
    assert all(name == target for name, target in rows)
    assert sorted(name for name, _ in rows) == sorted(TESTED - {README})


@pytest.mark.parametrize("name", POLICIES)
def test_policy_is_found_valid(bin_dir: str, name: str) -> None:
    argv = [f"{bin_dir}/macvlan-egress", "policy", "validate", str(CONF / name)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert POLICIES[name] in done.stdout


@pytest.mark.parametrize("name", UNITS)
def test_unit_starts_a_command_that_there_is(bin_dir: str, name: str) -> None:
    (line,) = re.findall(r"^ExecStart=(.+)$", (CONF / name).read_text(), re.MULTILINE)
    _, *words = line.split()
    argv = [f"{bin_dir}/macvlan-egress", *words, "--help"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_socket_unit_listens_where_the_launcher_calls() -> None:
    (path,) = re.findall(r"^ListenStream=(.+)$", (CONF / DAEMON_SOCKET).read_text(), re.MULTILINE)
    assert path == "/run/macvlan-egress/daemon.sock"


def test_rights_are_of_the_three_kinds_that_they_take() -> None:
    kinds = [one["kind"] for one in yaml.safe_load_all((CONF / RIGHTS).read_text())]
    assert kinds == ["ServiceAccount", "ClusterRole", "ClusterRoleBinding"]


@pytest.mark.parametrize("name", [*CHAINED, STANDALONE])
def test_conflist_is_found_valid(bin_dir: str, name: str) -> None:
    place = "standalone" if name == STANDALONE else "chained"
    assert f"ok: {place}" in validate(bin_dir, str(CONF / name))


def test_network_of_the_definition_is_found_valid(bin_dir: str, tmp_path: Path) -> None:
    file = tmp_path / "network.conf"
    file.write_text(manifest(NETWORK, "NetworkAttachmentDefinition")["spec"]["config"])
    assert "ok: standalone" in validate(bin_dir, str(file))


def test_chained_conflists_differ_only_in_the_main_plugin() -> None:
    ours = [json.loads((CONF / name).read_text())["plugins"][1:] for name in CHAINED]
    assert ours[0] == ours[1]


@pytest.mark.parametrize(
    ("name", "wish"),
    [
        (EGRESS_POD, "192.168.12.99/24"),
        (ROUTER_POD, "a bare interface"),
        (SERVICE, "192.168.12.99/24; 443 tcp 203.0.113.25"),
    ],
)
def test_annotations_of_the_pod_are_found_valid(bin_dir: str, name: str, wish: str) -> None:
    assert validate(bin_dir, "-f", str(CONF / name)).endswith(f"asks for {wish}\n")


@pytest.mark.parametrize("name", [EGRESS_POD, ROUTER_POD])
def test_manifest_makes_the_namespace_of_its_pod(name: str) -> None:
    pod, namespace = manifest(name, "Pod"), manifest(name, "Namespace")
    assert pod["metadata"]["namespace"] == namespace["metadata"]["name"]
    level = namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"]
    containers = pod["spec"]["containers"] + pod["spec"].get("initContainers", [])
    privileged = [one for one in containers if one.get("securityContext", {}).get("privileged")]
    assert bool(privileged) == (level == "privileged")


@pytest.mark.parametrize("name", [EGRESS_POD, SERVICE])
def test_egress_pod_keeps_to_the_restricted_pod_security_standard(name: str) -> None:
    spec = (manifest(name, "Deployment")["spec"]["template"] if name == SERVICE else manifest(name, "Pod"))[
        "spec"
    ]
    labels = manifest(name, "Namespace")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    assert labels["macvlan-egress/allow"] == "true"
    assert not {"hostNetwork", "hostPID", "hostIPC", "volumes"} & set(spec)
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in spec["containers"]:
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}


# -- chained


def test_annotated_pod_leaves_by_its_own_address(
    chain: Chain, pod: Pod, lan: Lan, outside: Namespace
) -> None:
    namespace, runtime = asked(EGRESS_POD)
    source = runtime[POD_ANNOTATIONS]["macvlan-egress/source"]
    result = chain.run("ADD", pod, namespace, runtime).ok()
    host = lan.host("192.168.12.50")
    ip = source.partition("/")[0]
    assert address_of(result, "macvlan0") == source
    assert list(pod.addresses("macvlan0")) == [source]
    assert pod.reach(outside, OUTSIDE4, source=ip) == ip
    assert pod.reach(host, "192.168.12.50", device="macvlan0") == ip
    assert host.reach(pod, ip) == "192.168.12.50"


def test_annotated_pod_keeps_the_pod_network(chain: Chain, lab: Lab, outside: Namespace) -> None:
    namespace, runtime = asked(EGRESS_POD)
    pods = empty_pod(lab), empty_pod(lab)
    results = [
        chain.run("ADD", pod, namespace, offer).ok()
        for pod, offer in zip(pods, (runtime, PLAIN), strict=True)
    ]
    one, other = [address_of(result, "eth0").partition("/")[0] for result in results]
    assert pods[0].reach(pods[1], other) == one
    assert pods[1].reach(pods[0], one) == other
    assert pods[0].reach(outside, OUTSIDE4) == "192.168.12.10"  # the node's, as ipMasq has it


def test_check_is_disabled_because_the_main_plugin_knows_no_other_interface(chain: Chain, pod: Pod) -> None:
    """bridge and ptp look for all addresses of the final result on eth0; CRI-O runs CHECK after every ADD."""
    namespace, runtime = asked(EGRESS_POD)
    result = chain.run("ADD", pod, namespace, runtime).ok()
    assert chain.conflist["disableCheck"] is True
    answer = chain.run("CHECK", pod, namespace, runtime, result)
    assert "192.168.12.99/24 on interface eth0" in answer.json["msg"]
    main, ours = chain.conflist["plugins"]
    assert main["type"] in ("bridge", "ptp")
    alone = Chain(pod.node, {**chain.conflist, "plugins": [ours]})
    alone.run("CHECK", pod, namespace, runtime, result).ok()


def test_detached_pod_leaves_nothing(chain: Chain, pod: Pod, node: Node) -> None:
    namespace, runtime = asked(EGRESS_POD)
    neighbour = empty_pod(node.lab)  # keeps cni0 up
    settle(neighbour, chain.run("ADD", neighbour, namespace, PLAIN).ok())
    before = chain.left()
    with unchanged(node, pod, neighbour):
        result = chain.run("ADD", pod, namespace, runtime).ok()
        assert len(chain.left()) > len(before)
        chain.run("DEL", pod, namespace, runtime, result).ok()
    assert chain.left() == before


def test_plain_pod_passes_through(chain: Chain, pod: Pod, outside: Namespace) -> None:
    runtime = {POD_ANNOTATIONS: {"team": "blue"}}
    result = chain.run("ADD", pod, "elsewhere", runtime).ok()
    assert [one["name"] for one in result["interfaces"] if one.get("sandbox")] == ["eth0"]
    assert sorted(link["ifname"] for link in pod.show("link show")) == ["eth0", "lo"]
    assert pod.reach(outside, OUTSIDE4) == "192.168.12.10"
    chain.run("DEL", pod, "elsewhere", runtime, result).ok()
    assert chain.left() == []


@pytest.mark.parametrize(
    ("namespace", "change", "words"),
    [
        ("shop", {}, ("'shop'", "egress")),
        ("egress", {"macvlan-egress/source": "192.168.12.66/24"}, ("192.168.12.66", "192.168.12.96/27")),
        ("egress", None, ("it limits sources",)),
    ],
    ids=["another-namespace", "another-source", "bare"],
)
def test_what_is_not_granted_is_refused(
    chain: Chain, pod: Pod, namespace: str, change: dict[str, str] | None, words: tuple[str, ...]
) -> None:
    _, runtime = asked(EGRESS_POD)
    annotations = {ASSIGN: "true"} if change is None else {**runtime[POD_ANNOTATIONS], **change}
    chain.run("ADD", pod, namespace, {POD_ANNOTATIONS: annotations}).refused(NOT_ALLOWED, *words)
    assert pod.link("macvlan0") is None


def test_service_selects_the_deployment_that_has_one_pod_at_a_time() -> None:
    deployment, service = manifest(SERVICE, "Deployment"), manifest(SERVICE, "Service")
    assert (deployment["spec"]["replicas"], deployment["spec"]["strategy"]) == (1, {"type": "Recreate"})
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"] == deployment["spec"]["selector"]["matchLabels"] == labels
    assert service["metadata"]["namespace"] == deployment["metadata"]["namespace"]


def test_service_leads_to_the_destination_under_the_egress_source(
    chain: Chain, lab: Lab, node: Node, outside: Namespace
) -> None:
    namespace, runtime = asked(SERVICE)
    pod, client = empty_pod(lab), empty_pod(lab)
    result = chain.run("ADD", pod, namespace, runtime).ok()
    chain.run("ADD", client, "shop", PLAIN).ok()
    (port,) = manifest(SERVICE, "Service")["spec"]["ports"]
    service = ClusterService(node, "10.96.0.50", [port["port"]], protocol="tcp", masquerade=True)
    service.lead_to(address_of(result, "eth0").partition("/")[0])
    visit = exchange("tcp", client, ("10.96.0.50", port["port"]), outside, 443)
    assert (visit.source, visit.target) == ("192.168.12.99", OUTSIDE4)


def test_openshift_router_redirects_its_clients(
    chain: Chain, lab: Lab, node: Node, outside: Namespace
) -> None:
    namespace, runtime = asked(ROUTER_POD)
    router, client = empty_pod(lab), empty_pod(lab)
    result = chain.run("ADD", router, namespace, runtime).ok()
    chain.run("ADD", client, "shop", PLAIN).ok()
    (container,) = manifest(ROUTER_POD, "Pod")["spec"]["initContainers"]
    assert router.addresses("macvlan0") == {}
    port, target, source = set_up_as_openshift_does(
        router, {one["name"]: one["value"] for one in container["env"]}
    )
    inside = address_of(result, "eth0").partition("/")[0]
    assert peer_seen(outside, (target, port), client, (inside, port)) == source
    assert router.reach(node, "192.168.12.10") == inside
    assert router.route_get("10.96.0.10")["dev"] == "eth0"
    chain.run("DEL", router, namespace, runtime, result).ok()
    assert router.link("macvlan0") is None


def set_up_as_openshift_does(pod: Pod, variables: dict[str, str]) -> tuple[int, str, str]:
    """What the script of OpenShift's image does in mode `init`; returns port, destination and source."""
    assert variables["EGRESS_ROUTER_MODE"] == "init"
    source, gateway = variables["EGRESS_SOURCE"], variables["EGRESS_GATEWAY"]
    port, protocol, destination = variables["EGRESS_DESTINATION"].split()
    pod.sysctl("net/ipv4/ip_forward", 1)  # on a node of Kubernetes, pods find it so
    pod.ip(
        f"address add {source} dev macvlan0",
        "link set macvlan0 up",
        f"route add {gateway}/32 dev macvlan0",
        "route del default",
        f"route add default via {gateway} dev macvlan0",
    )
    ip = source.partition("/")[0]
    rules = [
        "add table ip nat",
        "add chain ip nat prerouting { type nat hook prerouting priority dstnat; }",
        "add chain ip nat postrouting { type nat hook postrouting priority srcnat; }",
        f"add rule ip nat prerouting iifname eth0 {protocol} dport {port} dnat to {destination}",
        f"add rule ip nat postrouting oifname macvlan0 snat to {ip}",
    ]
    pod.run("nft", "-f", "-", stdin="\n".join(rules) + "\n")
    return int(port), destination, ip


def peer_seen(server: Namespace, at: tuple[str, int], client: Namespace, to: tuple[str, int]) -> str:
    """Whom a server sees when a client connects to some address by which it is reached."""
    with closing(server.socket(socket.AF_INET)) as listener, closing(client.socket(socket.AF_INET)) as sock:
        listener.bind(at)
        listener.listen()
        listener.settimeout(3)
        sock.settimeout(3)
        sock.connect(to)
        connection, peer = listener.accept()
        connection.close()
        return str(peer[0])


# -- standalone


def test_standalone_network_is_the_only_one_of_a_container(
    node: Node, pod: Pod, lan: Lan, outside: Namespace
) -> None:
    chain = Chain(node, json.loads((CONF / STANDALONE).read_text()))
    with unchanged(node, pod):
        result = chain.run("ADD", pod).ok()
        address = address_of(result, "eth0")
        assert address == "192.168.12.200/24"
        assert list(pod.addresses("eth0")) == [address]
        assert pod.reach(outside, OUTSIDE4) == "192.168.12.200"
        assert lan.reach(pod, "192.168.12.200")
        chain.run("CHECK", pod, previous=result).ok()
        chain.run("DEL", pod, previous=result).ok()
    assert chain.left() == []


def test_standalone_network_gives_the_address_and_mac_asked_for(node: Node, pod: Pod) -> None:
    chain = Chain(node, json.loads((CONF / STANDALONE).read_text()))
    runtime = {"ips": ["192.168.12.210"], "mac": "02:00:5e:10:00:01"}
    result = chain.run("ADD", pod, runtime=runtime).ok()
    assert address_of(result, "eth0") == "192.168.12.210/24"
    assert pod.mac("eth0") == "02:00:5e:10:00:01"


def test_definition_for_multus_adds_an_interface(
    node: Node, pod: Pod, outside: Namespace, chain: Chain
) -> None:
    definition = manifest(NETWORK, "NetworkAttachmentDefinition")
    namespace = definition["metadata"]["namespace"]
    second = Chain(node, json.loads(definition["spec"]["config"]), ifname="net1")
    main = chain.run("ADD", pod, namespace, PLAIN).ok()
    settle(pod, main)
    before = chain.left()
    with unchanged(node, pod):
        result = second.run("ADD", pod, namespace).ok()
        assert address_of(result, "net1") == "192.168.12.220/24"
        assert pod.reach(outside, OUTSIDE4) == "192.168.12.220"
        assert pod.route_get("198.51.100.1")["dev"] == "eth0"
        second.run("CHECK", pod, namespace, previous=result).ok()
        second.run("DEL", pod, namespace, previous=result).ok()
    assert chain.left() == before
    chain.run("DEL", pod, namespace, PLAIN, main).ok()


def test_definition_for_multus_gives_the_address_asked_for(node: Node, pod: Pod, outside: Namespace) -> None:
    definition = manifest(NETWORK, "NetworkAttachmentDefinition")
    chain = Chain(node, json.loads(definition["spec"]["config"]), ifname="net1")
    result = chain.run("ADD", pod, "egress", {"ips": ["192.168.12.225/24"]}).ok()
    assert address_of(result, "net1") == "192.168.12.225/24"
    assert pod.reach(outside, OUTSIDE4) == "192.168.12.225"
