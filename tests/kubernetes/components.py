"""The programs of a Kubernetes node and control plane: what each is started with."""

from __future__ import annotations

from .pki import DIRECTORY

PKI = f"{DIRECTORY}/pki"
NODE, NODE_ADDRESS = "node1", "192.168.12.10"
SERVER = f"https://{NODE_ADDRESS}:6443"
PODS, SERVICES, API_SERVICE = "10.244.0.0/24", "10.96.0.0/16", "10.96.0.1"
_ETCD = "http://127.0.0.1:2379"
_KUBELET_CONFIG = f"{DIRECTORY}/kubelet.yaml"
_CONTAINERD_CONFIG = "/etc/containerd/config.toml"
CONTAINERD_SOCKET = "/run/containerd/containerd.sock"

CONTAINERD = ["/usr/bin/containerd", "-c", _CONTAINERD_CONFIG]
ETCD = [
    "etcd", "--data-dir=/var/lib/etcd", f"--listen-client-urls={_ETCD}", f"--advertise-client-urls={_ETCD}",
    "--listen-peer-urls=http://127.0.0.1:2380", "--unsafe-no-fsync",
]  # fmt: skip


def api_server(binaries: str) -> list[str]:
    return [
        f"{binaries}/kube-apiserver", f"--etcd-servers={_ETCD}", f"--service-cluster-ip-range={SERVICES}",
        f"--tls-cert-file={PKI}/apiserver.crt", f"--tls-private-key-file={PKI}/apiserver.key",
        f"--client-ca-file={PKI}/ca.crt", "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-signing-key-file={PKI}/sa.key", f"--service-account-key-file={PKI}/sa.pub",
        "--authorization-mode=Node,RBAC", "--allow-privileged=true", f"--advertise-address={NODE_ADDRESS}",
        "--kubelet-preferred-address-types=InternalIP", f"--kubelet-client-certificate={PKI}/admin.crt",
        f"--kubelet-client-key={PKI}/admin.key",
    ]  # fmt: skip


def scheduler(binaries: str) -> list[str]:
    return [f"{binaries}/kube-scheduler", f"--kubeconfig={DIRECTORY}/admin.conf", "--leader-elect=false"]


def controller_manager(binaries: str) -> list[str]:
    return [
        f"{binaries}/kube-controller-manager", f"--kubeconfig={DIRECTORY}/admin.conf", "--leader-elect=false",
        f"--service-account-private-key-file={PKI}/sa.key", f"--root-ca-file={PKI}/ca.crt",
        "--use-service-account-credentials=true",
    ]  # fmt: skip


def kubelet(binaries: str) -> list[str]:
    return [
        f"{binaries}/kubelet", f"--config={_KUBELET_CONFIG}", f"--kubeconfig={DIRECTORY}/kubelet.conf",
        "--container-runtime=remote", f"--container-runtime-endpoint=unix://{CONTAINERD_SOCKET}",
        f"--hostname-override={NODE}", f"--node-ip={NODE_ADDRESS}", "--v=2",
    ]  # fmt: skip


def proxy(binaries: str) -> list[str]:
    return [
        f"{binaries}/kube-proxy", f"--kubeconfig={DIRECTORY}/admin.conf", "--proxy-mode=iptables",
        f"--cluster-cidr={PODS}", f"--hostname-override={NODE}",
        # These sysctls are the whole host's.
        "--conntrack-max-per-core=0", "--conntrack-tcp-timeout-established=0", "--conntrack-tcp-timeout-close-wait=0",
    ]  # fmt: skip


def files(cgroup: str, pause: str) -> dict[str, str]:
    """Configuration files by path.

    Args:
        cgroup: which the pods' own are below.
        pause: image of sandboxes.
    """
    return {
        # oom_score_adj may not be lowered without CAP_SYS_RESOURCE.
        _CONTAINERD_CONFIG: f"""\
version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  restrict_oom_score_adj = true
""",
        _KUBELET_CONFIG: f"""\
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {{anonymous: {{enabled: false}}, webhook: {{enabled: false}}, x509: {{clientCAFile: {PKI}/ca.crt}}}}
authorization: {{mode: AlwaysAllow}}
cgroupDriver: cgroupfs
clusterDNS: ["10.96.0.10"]
clusterDomain: cluster.local
cgroupRoot: /{cgroup}
cgroupsPerQOS: false
enforceNodeAllocatable: []
failSwapOn: false
localStorageCapacityIsolation: false
evictionHard: {{nodefs.available: "0%", imagefs.available: "0%", memory.available: 1Mi}}
""",
    }
