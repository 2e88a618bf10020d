"""What can be found of what is installed and configured: runtime, executable, conflists."""

from __future__ import annotations

from .kind import Kind

KINDS = {
    # -- runtime
    "runtime": Kind(
        "runtime", "warning", "no container runtime was found (containerd or CRI-O)",
        "run it on the node, or name where the node's file system is mounted with --root",
    ),
    "runtime-configuration": Kind(
        "runtime", "warning", "the runtime's configuration cannot be read", "correct {path}",
    ),
    "runtime-cri": Kind(
        "runtime", "error", "containerd runs without CRI, so that Kubernetes cannot use it",
        "remove \"cri\" from disabled_plugins in {path}, then: systemctl restart containerd",
    ),
    "runtime-socket": Kind(
        "runtime", "warning", "the runtime does not listen at its socket", "systemctl status {runtime}",
    ),
    "runtime-version": Kind(
        "runtime", "note", "the runtime's version is not known", "{runtime} --version",
    ),
    "runtime-annotations": Kind(
        "runtime", "error", "the runtime is too old to pass annotations, and nobody else is asked for them",
        "upgrade (containerd 1.5, CRI-O 1.28), or set \"kubeconfig\" in the plugin's entry",
    ),
    "runtime-directories": Kind(
        "runtime", "warning", "the runtime uses other directories than the ones examined",
        "macvlan-egress doctor --cni-dir {cni_dir} --bin-dir {bin_dir}",
    ),
    # -- executable
    "bin-dir": Kind(
        "executable", "error", "the CNI bin directory cannot be read",
        "name the right one with --bin-dir, or: mkdir -p {path}",
    ),
    "executable": Kind(
        "executable", "error", "the plugin is not in the CNI bin directory",
        "macvlan-egress launcher --write {path}",
    ),
    "executable-mode": Kind(
        "executable", "error", "the plugin's executable cannot be executed", "chmod 755 {path}",
    ),
    "executable-writable": Kind(
        "executable", "warning", "others than root can change what the runtime runs as root",
        "chown root:root {path} && chmod go-w {path}",
    ),
    "executable-runs": Kind(
        "executable", "error", "the plugin's executable does not answer as a CNI plugin",
        "macvlan-egress launcher --write {path}",
    ),
    "executable-current": Kind(
        "executable", "warning", "the plugin's executable is of another version than this command",
        "macvlan-egress launcher --write {path} {native}",
    ),
    "chain-executables": Kind(
        "executable", "error", "a plugin that the configuration names is not in the CNI bin directory",
        "install it into {path} (Debian: containernetworking-plugins), or correct its \"type\"",
    ),
    "daemon": Kind(
        "executable", "warning", "the daemon does not answer (an error if there is no direct mode to fall back on)",
        "systemctl restart macvlan-egress.socket macvlan-egress.service",
    ),
    "daemon-current": Kind(
        "executable", "warning", "the daemon that runs is of another version than this command",
        "systemctl restart macvlan-egress",
    ),
    # -- conflist
    "cni-dir": Kind(
        "conflist", "error", "the CNI configuration directory cannot be read",
        "name the right one with --cni-dir; the main CNI makes it: {path}",
    ),
    "conflist-none": Kind(
        "conflist", "error", "there is no CNI configuration", "install a main CNI first; it writes to {path}",
    ),
    "conflist-invalid": Kind(
        "conflist", "warning", "a CNI configuration file is not usable (an error if it comes first)",
        "correct {path}, or move it out of the directory",
    ),
    "conflist-version": Kind(
        "conflist", "error", "the configuration is of a CNI version that the plugin does not speak",
        "set \"cniVersion\" to 1.0.0 in {path}",
    ),
    "conflist-name": Kind(
        "conflist", "error", "the network's name is missing or malformed",
        "set \"name\" in {path}; letters, digits, '_', '.' and '-'",
    ),
    "conflist-writable": Kind(
        "conflist", "warning", "others than root can change what the runtime runs as root",
        "chown root:root {path} && chmod go-w {path}",
    ),
    "multus": Kind(
        "conflist", "note", "the first file is Multus' own, which tells its delegates no annotations",
        "run 'macvlan-egress install'; docs/install.md says what to do where {path} is no list",
    ),
    "entry": Kind(
        "conflist", "error", "no CNI configuration names the plugin", "macvlan-egress install",
    ),
    "entry-shadowed": Kind(
        "conflist", "error", "the plugin stands in a file that the runtime does not take",
        "put the entry into {first}: macvlan-egress install",
    ),
    "entry-twice": Kind(
        "conflist", "warning", "the plugin stands in a chain more than once",
        "remove all entries but one from {path}",
    ),
    "entry-order": Kind(
        "conflist", "error", "the plugin stands before the main plugin of its chain",
        "move the entry behind {plugin} in {path}",
    ),
    "entry-keys": Kind(
        "conflist", "error", "the plugin's entry is refused", "correct {path}; docs/configuration.md lists every key",
    ),
    "entry-cluster-networks": Kind(
        "conflist", "warning", "clusterNetworks is missing, and traffic within the cluster would be cut (an error with "
        "'policy')",
        "set \"clusterNetworks\" to the networks of pods, services and nodes in {path}",
    ),
    "entry-allow": Kind(
        "conflist", "error", "no pod may use the plugin: there is no 'allow'",
        "add \"allow\": [{{\"namespaces\": [\"NAMESPACE\"]}}] to the entry in {path}",
    ),
    "entry-annotations": Kind(
        "conflist", "error", "the runtime will not pass annotations, and nobody else is asked for them",
        "add \"capabilities\": {{\"io.kubernetes.cri.pod-annotations\": true}} to the entry in {path}",
    ),
    "entry-check": Kind(
        "conflist", "note", "the main plugin's CHECK fails for pods with a macvlan (a warning with CRI-O)",
        "set \"disableCheck\": true beside \"plugins\" in {path}",
    ),
    "entry-kubeconfig": Kind(
        "conflist", "error", "the kubeconfig cannot be read", "put a kubeconfig at {path}, or remove the key",
    ),
    "policy-directory": Kind(
        "conflist", "warning", "the directory of egress policies does not exist", "mkdir -p {path}",
    ),
    "policy-documents": Kind(
        "conflist", "error", "an egress policy cannot be used and closes its namespace",
        "macvlan-egress policy validate {path}",
    ),
}  # fmt: skip
