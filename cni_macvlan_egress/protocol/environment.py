"""The environment variables of a CNI call, checked as the specification and the reference skeleton demand.

Knows verbs and variables, nothing of networks. Loaded by every exec, so it imports next to nothing.
"""

from __future__ import annotations

from .errors import INVALID_ENVIRONMENT, CniError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

# containernetworking/cni pkg/skel/skel.go, getCmdArgsFromEnv.
REQUIRED: dict[str, tuple[str, ...]] = {
    "ADD": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"),
    "CHECK": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"),
    "DEL": ("CNI_CONTAINERID", "CNI_IFNAME", "CNI_PATH"),
    "GC": ("CNI_PATH",),
    "STATUS": ("CNI_PATH",),
    "VERSION": (),
}
KNOWN_ARGS = frozenset(
    (
        "IgnoreUnknown", "K8S_POD_NAMESPACE", "K8S_POD_NAME", "K8S_POD_UID", "K8S_POD_INFRA_CONTAINER_ID",
        "IP", "MAC",  # CONVENTIONS.md of the specification, "CNI_ARGS"
    )
)  # fmt: skip
IFNAME_MAX_BYTES = 15  # IFNAMSIZ less the terminating NUL
# A state file is named by container ID and interface name, and a file name ends at 255 bytes.
CONTAINER_ID_MAX = 200

_ALPHANUMERIC = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
_IDENTIFIER = _ALPHANUMERIC | frozenset("_.-")


class Environment:
    """What the runtime said through the environment.

    Attributes:
        args: the pairs of CNI_ARGS.
        netns_override: whether CNI_NETNS may be the plugin's own namespace.
    """

    __slots__ = ("args", "command", "container_id", "ifname", "netns", "netns_override", "path", "variables")

    def __init__(self, variables: Mapping[str, str]) -> None:
        self.variables = variables
        self.command = variables.get("CNI_COMMAND", "")
        self.container_id = variables.get("CNI_CONTAINERID", "")
        self.netns = variables.get("CNI_NETNS", "")
        self.ifname = variables.get("CNI_IFNAME", "")
        self.path = [directory for directory in variables.get("CNI_PATH", "").split(":") if directory]
        self.netns_override = variables.get("CNI_NETNS_OVERRIDE", "").lower() in ("1", "true")
        self.args: dict[str, str] = {}


def read(variables: Mapping[str, str]) -> Environment:
    """Check the variables of one call.

    Raises:
        CniError: INVALID_ENVIRONMENT, naming every variable that is missing or the one that is malformed.
    """
    env = Environment(variables)
    if env.command not in REQUIRED:
        verbs = ", ".join(REQUIRED)
        raise CniError(INVALID_ENVIRONMENT, f"unknown CNI_COMMAND: {env.command!r}; the verbs are {verbs}")
    missing = [name for name in REQUIRED[env.command] if not variables.get(name)]
    if missing:
        raise CniError(INVALID_ENVIRONMENT, f"required env variables [{','.join(missing)}] missing")
    if env.container_id:
        _check_container_id(env.container_id)
    if env.ifname:
        check_interface_name(env.ifname, "CNI_IFNAME")
    if "\0" in env.netns:
        raise CniError(INVALID_ENVIRONMENT, "CNI_NETNS holds a NUL byte")
    env.args = parse_args(variables.get("CNI_ARGS", ""), lenient=env.command not in ("ADD", "CHECK"))
    return env


def parse_args(text: str, lenient: bool = False) -> dict[str, str]:
    """Split CNI_ARGS (`K=V;K=V`) into pairs; unknown keys need IgnoreUnknown (pkg/types/args.go)."""
    pairs: dict[str, str] = {}
    for item in text.split(";"):
        if not item:
            continue
        key, equals, value = item.partition("=")
        if not equals or not key:
            if lenient:
                continue
            raise CniError(INVALID_ENVIRONMENT, f"CNI_ARGS: {item!r} is not of the form KEY=VALUE")
        pairs[key] = value
    unknown = [key for key in pairs if key not in KNOWN_ARGS]
    if unknown and not lenient and pairs.get("IgnoreUnknown", "").lower() not in ("1", "true"):
        raise CniError(
            INVALID_ENVIRONMENT,
            f"CNI_ARGS: unknown key {unknown[0]!r}; add IgnoreUnknown=1 if it is meant for another plugin",
        )
    return pairs


def is_identifier(text: str) -> bool:
    """Whether a text is a valid container ID or network name: ^[a-zA-Z0-9][a-zA-Z0-9_.-]*$ (pkg/utils)."""
    return bool(text) and text[0] in _ALPHANUMERIC and _IDENTIFIER.issuperset(text)


def is_absolute(text: str) -> bool:
    """Whether a text is an absolute path that system calls take; half of a surrogate pair is no character."""
    if not text.startswith("/") or "\0" in text:
        return False
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return True


def check_interface_name(name: str, what: str, code: int = INVALID_ENVIRONMENT) -> None:
    """Check a name as the kernel and the specification do: 1-15 bytes, no `/`, `:` or white space."""
    rule = ""
    octets = name.encode("utf-8", "surrogatepass")
    if not 1 <= len(octets) <= IFNAME_MAX_BYTES:
        rule = f"an interface name has 1 to {IFNAME_MAX_BYTES} bytes"
    elif name in (".", ".."):
        rule = "an interface name is not . or .."
    elif any(character in "/:" or character.isspace() or not character.isprintable() for character in name):
        rule = "an interface name has no '/', ':', white space or control character"
    elif b"\xa0" in octets:
        rule = "an interface name has no byte a0, which is white space to the kernel"
    if rule:
        raise CniError(code, f"{what}: {name!r}: {rule}")


def _check_container_id(container_id: str) -> None:
    if not is_identifier(container_id):
        raise CniError(
            INVALID_ENVIRONMENT,
            f"CNI_CONTAINERID: {container_id[:80]!r}: a container ID starts with a letter or digit and has only "
            "letters, digits, '_', '.' and '-'",
        )
    if len(container_id) > CONTAINER_ID_MAX:
        raise CniError(
            INVALID_ENVIRONMENT,
            f"CNI_CONTAINERID has {len(container_id)} characters; at most {CONTAINER_ID_MAX} fit a state file's name",
        )
