"""Error codes of the plugin and the one exception that carries them to the runtime.

Everything that can go wrong has its row in TABLE; docs/errors.md is checked against it. This file imports
nothing, because every exec loads it.
"""

from __future__ import annotations

# CNI specification 1.1.0, section "Error".
INCOMPATIBLE_VERSION = 1
UNSUPPORTED_FIELD = 2
UNKNOWN_CONTAINER = 3
INVALID_ENVIRONMENT = 4
IO_FAILURE = 5
DECODING_FAILURE = 6
INVALID_CONFIGURATION = 7
INVALID_NETNS = 8  # not in the specification's text; types.ErrInvalidNetNS of the reference library
TRY_AGAIN_LATER = 11
NOT_AVAILABLE = 50
LIMITED_CONNECTIVITY = 51

# The plugin's own codes (the specification leaves 100 and above to plugins).
NOT_ALLOWED = 100
MASTER_UNUSABLE = 101
INTERFACE_EXISTS = 102
ADDRESS_HELD = 103
ADDRESS_CONFLICT = 104
KERNEL_REFUSED = 105
INVALID_ANNOTATION = 106
DRIFT = 107
ALREADY_ATTACHED = 108
IPAM_FAILED = 109
DEPENDENCY_MISSING = 110
POLICY_UNUSABLE = 111
INTERNAL = 199

# code: (name, when it comes, what to do)
TABLE: dict[int, tuple[str, str, str]] = {
    INCOMPATIBLE_VERSION: (
        "incompatible CNI version",
        "`cniVersion` of the configuration is none of 0.1.0 to 1.1.0, or the verb needs a newer one "
        "(CHECK: 0.4.0, GC and STATUS: 1.1.0).",
        "Set `cniVersion` in the conflist to a version that the runtime and every plugin of the chain know; "
        "1.0.0 suits most.",
    ),
    UNSUPPORTED_FIELD: (
        "unsupported field",
        "The configuration asks for something that this plugin does not do.",
        "Remove the key that the message names.",
    ),
    UNKNOWN_CONTAINER: (
        "unknown container",
        "CHECK came for a container of which there is no record.",
        "Run ADD first; if the record was removed by hand, delete the pod and let it be made again.",
    ),
    INVALID_ENVIRONMENT: (
        "invalid environment",
        "A `CNI_…` variable is missing or malformed. The message names every one.",
        "This is the runtime's side of the contract: call the plugin through a runtime, or set what is named.",
    ),
    IO_FAILURE: (
        "I/O failure",
        "A file or directory of the plugin (state, locks) could not be read or written.",
        "Look at the path and the reason in the message: disk full, read-only file system, wrong owner.",
    ),
    DECODING_FAILURE: (
        "decoding failure",
        "stdin was not the JSON object that CNI prescribes, or was too large.",
        "Check the conflist with `macvlan-egress validate`.",
    ),
    INVALID_CONFIGURATION: (
        "invalid network configuration",
        "A key of the plugin's configuration is unknown, or its value breaks a rule.",
        "Correct the key that the message names; docs/configuration.md lists all.",
    ),
    INVALID_NETNS: (
        "invalid network namespace",
        "`CNI_NETNS` does not exist, is no network namespace, or is the node's own.",
        "Usually the pod is gone already and the runtime tries again by itself. By hand: give the path of the "
        "pod's namespace, such as /var/run/netns/NAME.",
    ),
    TRY_AGAIN_LATER: (
        "try again later",
        "Something that usually passes: the API server did not answer, or another call for the same "
        "attachment was still running.",
        "The runtime tries again by itself. If it stays, the details say what does not answer.",
    ),
    NOT_AVAILABLE: (
        "plugin not available",
        "STATUS: an ADD could not succeed now; the message says why.",
        "Mend what the message names (NIC missing or down, state directory not writable, configuration).",
    ),
    LIMITED_CONNECTIVITY: (
        "limited connectivity",
        "STATUS: pods can be attached, but existing ones may lack connectivity.",
        "Mend what the message names.",
    ),
    NOT_ALLOWED: (
        "not allowed",
        "A pod asks for an interface or address that no grant in `allow` covers.",
        "Add a grant to `allow` in the plugin's configuration, or remove the annotation from the pod.",
    ),
    MASTER_UNUSABLE: (
        "master unusable",
        "The NIC to attach to is missing, down, not Ethernet, a macvlan itself, a port of a bridge or bond, "
        "or could not be determined.",
        "Name a NIC in `master` or in the pod's annotation, set it up (`ip link set NIC up`), or use the bridge "
        "or bond instead of its port.",
    ),
    INTERFACE_EXISTS: (
        "interface exists",
        "The pod already has an interface of that name which this plugin did not make.",
        "Choose another `ifName`, or remove the other plugin that makes it.",
    ),
    ADDRESS_HELD: (
        "address held on this node",
        "The source address belongs to the node itself or to another pod on it. An egress address can have "
        "one holder only.",
        "Give the pod another address, or delete the pod that the message names; use `replicas: 1` and strategy "
        "`Recreate` for a Deployment with a fixed address.",
    ),
    ADDRESS_CONFLICT: (
        "address in use on the network",
        "Another host on the LAN answered for the source address; the message names its MAC address.",
        "Find the host by its MAC address, or choose a free address. After a node died this ends by itself when "
        "the old pod's interface is gone.",
    ),
    KERNEL_REFUSED: (
        "the kernel refused a step",
        "A netlink request failed; the message names the step and the kernel's reason.",
        "The message says what was being tried. What had been done before was undone.",
    ),
    INVALID_ANNOTATION: (
        "invalid annotation",
        "An annotation of the pod, or their combination, breaks a rule; the message names annotation, value and "
        "rule.",
        "Correct the annotation; docs/annotations.md has the grammar. `macvlan-egress validate -f pod.yaml` "
        "checks it beforehand.",
    ),
    DRIFT: (
        "the pod's network differs from what ADD made",
        "CHECK found differences; the details list each with what was expected and found.",
        "Delete the pod so that it is made again, or undo what changed it.",
    ),
    ALREADY_ATTACHED: (
        "already attached",
        "ADD came twice for a finished attachment. The CNI specification demands an error.",
        "Run DEL first. Runtimes do so by themselves.",
    ),
    IPAM_FAILED: (
        "the IPAM plugin failed",
        "The plugin named in `ipam.type` was not found on CNI_PATH, or answered with an error; the details "
        "hold its own words.",
        "Correct `ipam`, or install the plugin into the CNI bin directory.",
    ),
    DEPENDENCY_MISSING: (
        "a Python package is missing",
        "pydantic, PyYAML or dnspython cannot be imported by the interpreter that runs the plugin.",
        "Install the plugin with `pip install` into a virtual environment of its own and put its launcher into "
        "the CNI bin directory with `macvlan-egress launcher`.",
    ),
    POLICY_UNUSABLE: (
        "egress policy unusable",
        "An egress policy, or the place where policies are read, cannot be used; the message names file, rule and "
        "field. The pods of that namespace reach nothing outside the cluster until it is mended.",
        "Correct the document; `macvlan-egress policy validate FILE` checks it beforehand.",
    ),
    INTERNAL: (
        "internal error",
        "A fault in the plugin. The traceback is in the log file.",
        "Please report it with the traceback.",
    ),
}


class CniError(Exception):
    """An error on its way to the runtime.

    Attributes:
        code: one of the codes above.
        msg: what went wrong and what to do about it, one line.
        details: more for whoever searches: expected and found, the other program's own words.
    """

    def __init__(self, code: int, msg: str, details: str = "") -> None:
        super().__init__(msg)
        self.code = code
        self.msg = msg
        self.details = details

    def __str__(self) -> str:
        return f"{self.msg} ({self.details})" if self.details else self.msg
