"""Egress policy documents, checked as their API servers check them, and the policies that they mean.

A document that breaks a rule closes its namespace: what its author wanted to deny must not pass because of a slip of
the pen. Only one that does not say for which namespace it is can close nothing; that is an error for whoever reads it.
Stricter than the API servers where they let through what would never match: addresses for names, CIDRs with host bits.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    FailFast,
    Field,
    ValidationError,
    model_validator,
)
from pydantic.alias_generators import to_camel

from ..protocol.errors import POLICY_UNUSABLE, CniError
from .addresses import IPNetwork, parse_network
from .complaints import show
from .policy import ENP_KIND, FIREWALL_KIND, Policy, PolicyRule, Port, PortProtocol
from .policy_complaints import INT_MAX, check_plain, sentence, shown

ENP_API_VERSION, FIREWALL_API_VERSION = "network.openshift.io/v1", "k8s.ovn.org/v1"
# OpenShift's and OVN-Kubernetes' documentation; both API servers take more, and the controllers do not.
ENP_RULES_MAX, FIREWALL_RULES_MAX = 1000, 8000
FIREWALL_NAME = "default"
NAME_MAX = 253  # RFC 1035, section 2.3.4, less the root's own dot and length byte

_LIST = "List"
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_CIDR = re.compile(r"[0-9A-Fa-f:.]+/[0-9]{1,3}")
_ANY_IPV4 = parse_network("0.0.0.0/0")
_ONE_IPV4 = parse_network("0.0.0.0/32")
_MAPPED = parse_network("::ffff:0:0/96")
# The limits keep a hostile text from being gone through more than once.
_VALUE = r"""["']?([a-z0-9][-a-z0-9]{0,62})(?![\w.-])"""
_NAMED = re.compile(r"""\bnamespace["']?\s*:\s*(?:[&!]\S{0,64}\s+){0,2}""" + _VALUE)
_ANCHORED = re.compile(r"&[^\s,&]{1,64}\s+" + _VALUE)
_SHOWN_TITLES = 3


# -- documents --------------------------------------------------------------------------------------------------


def _cidr(value: object) -> IPNetwork:
    if not isinstance(value, str):
        raise ValueError("a CIDR like 203.0.113.0/24 is expected")
    if not _CIDR.fullmatch(value):
        hint = f"; did you mean {value}/{128 if ':' in value else 32}?" if _is_address(value) else ""
        raise ValueError(f"a CIDR is written like 203.0.113.0/24 or 2001:db8::/32{hint}")
    network = parse_network(value)
    if network.version == 6 and network.subnet_of(_MAPPED):  # type: ignore[arg-type]
        raise ValueError("no packet has an IPv4-mapped IPv6 address; write it as an IPv4 CIDR")
    return network


def _cidr_of_openshift(value: object) -> IPNetwork:
    network = _cidr(value)
    # The form that older documents use for "everything", and which OpenShift SDN reads so.
    return _ANY_IPV4 if network == _ONE_IPV4 else network


def _is_address(text: str) -> bool:
    try:
        parse_network(text)
    except ValueError:
        return False
    return "/" not in text


def _dns_name(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("a DNS name is expected")
    if ":" in value or "/" in value or value.rstrip(".").rpartition(".")[2].isdigit():
        raise ValueError("a DNS name is expected; addresses go into cidrSelector")
    if value.startswith("*"):
        raise ValueError(f"an {ENP_KIND} has no wildcards; name each host")
    return _plain_name(value)


def _dns_name_or_wildcard(value: object) -> str:
    if isinstance(value, str) and value.startswith("*."):
        rest = _dns_name(value[2:])
        if len(rest) + 2 > NAME_MAX:
            raise ValueError(f"a DNS name has at most {NAME_MAX} characters")
        return f"*.{rest}"
    if isinstance(value, str) and "*" in value:
        raise ValueError("'*' stands for the first label alone, like *.example.com")
    return _dns_name(value)


def _plain_name(value: str) -> str:
    if not value.isascii():
        raise ValueError("a DNS name is written in ASCII; write an international one in its form xn--…")
    name = value.removesuffix(".").lower()
    if len(name) > NAME_MAX:
        raise ValueError(f"a DNS name has at most {NAME_MAX} characters")
    if not all(_LABEL.fullmatch(label) for label in name.split(".")):
        raise ValueError(
            "not a DNS name: labels of at most 63 letters, digits and '-', not beginning or ending with '-', "
            "separated by dots"
        )
    return name


def _object_name(value: str) -> str:
    if len(value) > NAME_MAX or not all(_LABEL.fullmatch(label) for label in value.split(".")):
        raise ValueError("small letters, digits, '-' and '.' are expected, as in a DNS name")
    return value


def _firewall_name(value: str) -> str:
    if value != FIREWALL_NAME:
        raise ValueError(f"an {FIREWALL_KIND} is named {FIREWALL_NAME!r}, so that a namespace has one only")
    return value


def _namespace(value: str) -> str:
    if not _LABEL.fullmatch(value):
        raise ValueError(
            "a namespace has at most 63 small letters, digits and '-', and does not begin or end with '-'"
        )
    return value


def _at_most(rules_max: int) -> Callable[[object], object]:
    def check(value: object) -> object:
        if isinstance(value, list) and len(value) > rules_max:
            raise ValueError(
                f"a policy of this kind has at most {rules_max} rules, and here are {len(value)}"
            )
        return value

    return check


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, alias_generator=to_camel)


class _Destination(_Strict):
    choices: ClassVar[tuple[str, ...]] = ("cidrSelector", "dnsName")

    @model_validator(mode="after")
    def _names_one(self) -> _Destination:
        if len(self.model_fields_set) != 1:
            raise ValueError(f"exactly one of {', '.join(self.choices)} is expected")
        return self


class EnpDestination(_Destination):
    cidr_selector: Annotated[IPNetwork | None, BeforeValidator(_cidr_of_openshift)] = None
    dns_name: Annotated[str | None, BeforeValidator(_dns_name)] = None


class FirewallDestination(_Destination):
    choices: ClassVar[tuple[str, ...]] = ("cidrSelector", "dnsName", "nodeSelector")

    cidr_selector: Annotated[IPNetwork | None, BeforeValidator(_cidr)] = None
    dns_name: Annotated[str | None, BeforeValidator(_dns_name_or_wildcard)] = None
    node_selector: dict[str, Any] = Field(default_factory=dict)


class FirewallPort(_Strict):
    protocol: Literal["TCP", "UDP", "SCTP"]
    port: Annotated[int, Field(ge=1, le=65535)]


class EnpRule(_Strict):
    type: Literal["Allow", "Deny"]
    to: EnpDestination


class FirewallRule(_Strict):
    type: Literal["Allow", "Deny"]
    to: FirewallDestination
    ports: Annotated[tuple[FirewallPort, ...], FailFast()] = Field(default=(), strict=False)


class EnpSpec(_Strict):
    egress: Annotated[tuple[EnpRule, ...], FailFast(), BeforeValidator(_at_most(ENP_RULES_MAX))] = Field(
        strict=False
    )


class FirewallSpec(_Strict):
    egress: Annotated[tuple[FirewallRule, ...], FailFast(), BeforeValidator(_at_most(FIREWALL_RULES_MAX))] = (
        Field(strict=False)
    )


class _Metadata(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    namespace: Annotated[str, AfterValidator(_namespace)]


class EnpMetadata(_Metadata):
    name: Annotated[str, AfterValidator(_object_name)]


class FirewallMetadata(_Metadata):
    name: Annotated[str, AfterValidator(_firewall_name)]


class EgressNetworkPolicy(_Strict):
    """OpenShift's, `network.openshift.io/v1`."""

    api_version: Literal["network.openshift.io/v1"]
    kind: Literal["EgressNetworkPolicy"]
    metadata: EnpMetadata
    spec: EnpSpec


class EgressFirewall(_Strict):
    """OVN-Kubernetes', `k8s.ovn.org/v1`."""

    api_version: Literal["k8s.ovn.org/v1"]
    kind: Literal["EgressFirewall"]
    metadata: FirewallMetadata
    spec: FirewallSpec


_MODELS: dict[str, type[EgressNetworkPolicy | EgressFirewall]] = {
    ENP_KIND: EgressNetworkPolicy,
    FIREWALL_KIND: EgressFirewall,
}
_API_VERSIONS = {ENP_KIND: ENP_API_VERSION, FIREWALL_KIND: FIREWALL_API_VERSION}


# -- what they mean ---------------------------------------------------------------------------------------------


def policies(document: object, origin: str) -> list[Policy]:
    """The policy of a document, or those of a List's items.

    Args:
        document: what YAML or JSON makes of it.
        origin: where it comes from, for titles and errors.

    Raises:
        CniError: POLICY_UNUSABLE if a document does not name a namespace that can exist.
    """
    return [policy(item, where) for item, where in items(document, origin)]


def items(document: object, origin: str) -> Iterator[tuple[object, str]]:
    """A document and its origin, or those of each item of a List."""
    kind = document.get("kind") if isinstance(document, dict) else None
    found = document.get("items") if isinstance(document, dict) else None
    of_kind = next((one for one in _MODELS if kind == f"{one}{_LIST}"), "")
    if not isinstance(found, list) or not (kind == _LIST or of_kind):
        yield document, origin
        return
    for number, item in enumerate(found, 1):
        if of_kind and isinstance(item, dict) and "kind" not in item:
            # The items of a list that is of one kind need not say so.
            item = {"apiVersion": _API_VERSIONS[of_kind], **item, "kind": of_kind}  # noqa: PLW2901
        yield item, f"{origin}, item {number}"


def policy(document: object, origin: str) -> Policy:
    """The policy of one document that is no List; it comes out broken if a rule is, with the reason.

    Raises:
        CniError: POLICY_UNUSABLE if it does not name a namespace that can exist.
    """
    try:
        if not isinstance(document, dict):
            raise ValueError(
                f"{shown(document)}: an object with apiVersion, kind, metadata and spec is expected"
            )
        namespace = _namespace_of(document)
    except ValueError as error:
        raise CniError(POLICY_UNUSABLE, f"{origin}: {error}") from None
    title = _title(document, origin)
    try:
        return Policy(namespace, title, _rules(document))
    except ValueError as error:
        return Policy(namespace, title, broken=str(error))


def gather(found: Iterable[Policy]) -> dict[str, Policy]:
    """Policies by namespace; several of one namespace, of whatever kind and source, close it."""
    by_namespace: dict[str, list[Policy]] = {}
    for one in found:
        by_namespace.setdefault(one.namespace, []).append(one)
    return {
        namespace: several[0] if len(several) == 1 else _contradiction(namespace, several)
        for namespace, several in by_namespace.items()
    }


def namespaces_named(text: str) -> set[str]:
    """The namespaces that a text names which is no document at all: half a file, or one with a slip in it."""
    # What has an anchor may be meant where an alias stands for the namespace.
    candidates = (*_NAMED.findall(text), *_ANCHORED.findall(text))
    return {found for found in candidates if _LABEL.fullmatch(found)}


def _contradiction(namespace: str, several: list[Policy]) -> Policy:
    titles = [one.title for one in several[:_SHOWN_TITLES]]
    if len(several) > _SHOWN_TITLES:
        titles.append(f"{len(several) - _SHOWN_TITLES} more")
    listed = f"{', '.join(titles[:-1])} and {titles[-1]}"
    return Policy(
        namespace,
        listed,
        broken=f"namespace {namespace} has {len(several)} policies and may have one: {listed}; remove all but one",
    )


def _namespace_of(document: dict[Any, Any]) -> str:
    """Raises ValueError if there is none."""
    if isinstance(kind := document.get("kind"), str) and kind.endswith(_LIST):
        raise ValueError(f"kind: {show(kind)}: a List has items, and none of them is a List")
    metadata = document.get("metadata")
    if not isinstance(metadata, dict) or metadata.get("namespace") is None:
        raise ValueError("metadata.namespace: this key is required; write for which namespace the policy is")
    value = metadata["namespace"]
    if not isinstance(value, str):
        # Somebody forgot the quotes around a namespace named 123 or true; it is closed, and told why.
        text = str(value).lower() if isinstance(value, int) and -INT_MAX < value < INT_MAX else ""
        if not _LABEL.fullmatch(text):
            raise ValueError(f"metadata.namespace: {shown(value)}: a string is expected")
        return text
    try:
        return _namespace(value)
    except ValueError as error:
        raise ValueError(f"metadata.namespace: {show(value)}: {error}") from None


def _title(document: dict[Any, Any], origin: str) -> str:
    kind, name = document.get("kind"), document["metadata"].get("name")
    words = [kind if isinstance(kind, str) and kind in _MODELS else "document"]
    if isinstance(name, str):
        with suppress(ValueError):
            words.append(_object_name(name))
    return f"{' '.join(words)} in {origin}"


def _rules(document: dict[Any, Any]) -> tuple[PolicyRule, ...]:
    """Raises ValueError with what is wrong and what to do."""
    metadata = {key: one for key, one in document["metadata"].items() if key in ("name", "namespace")}
    checked = {key: one for key, one in document.items() if key != "status"} | {"metadata": metadata}
    check_plain(checked)
    kind = checked.get("kind")
    model = _MODELS.get(kind) if isinstance(kind, str) else None
    if model is None:
        found = "there is none" if kind is None else shown(kind)
        raise ValueError(
            f"kind: {found}: {ENP_KIND} or {FIREWALL_KIND} is expected; keep other objects elsewhere"
        )
    try:
        parsed = model.model_validate(checked)
    except ValidationError as error:
        raise ValueError(sentence(error, model)) from None
    rules: tuple[EnpRule | FirewallRule, ...] = parsed.spec.egress
    return tuple(_rule(number, rule) for number, rule in enumerate(rules, 1))


def _rule(number: int, rule: EnpRule | FirewallRule) -> PolicyRule:
    allow, name = rule.type == "Allow", rule.to.dns_name or ""
    ports: tuple[Port, ...] = ()
    if isinstance(rule, FirewallRule):
        if "node_selector" in rule.to.model_fields_set:
            raise ValueError(
                f"rule {number}: to.nodeSelector: the nodes' addresses are not known here; write them as cidrSelector"
            )
        ports = tuple(dict.fromkeys(Port(_protocol(one.protocol), one.port) for one in rule.ports))
    if name.startswith("*.") and not allow:
        raise ValueError(
            f"rule {number}: to.dnsName: {show(name)}: a wildcard cannot be resolved, and so not be denied; name each "
            "host, or deny networks by cidrSelector"
        )
    return PolicyRule(number, allow, rule.to.cidr_selector, name, ports)


def _protocol(protocol: Literal["TCP", "UDP", "SCTP"]) -> PortProtocol:
    return {"TCP": "tcp", "UDP": "udp", "SCTP": "sctp"}[protocol]  # type: ignore[return-value]
