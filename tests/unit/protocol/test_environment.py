"""The CNI_… variables: what is demanded, what is refused, and in which words."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cni_macvlan_egress.protocol import environment
from cni_macvlan_egress.protocol.errors import INVALID_ENVIRONMENT, CniError

from ..calls import variables
from ..json_values import any_text
from ..refusals import refused

ATTACHMENT = ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH")
# pkg/skel/skel.go, getCmdArgsFromEnv
DEMANDED = {
    "ADD": ATTACHMENT,
    "CHECK": ATTACHMENT,
    "DEL": ("CNI_CONTAINERID", "CNI_IFNAME", "CNI_PATH"),
    "GC": ("CNI_PATH",),
    "STATUS": ("CNI_PATH",),
    "VERSION": (),
}


@pytest.mark.parametrize(("verb", "demanded"), DEMANDED.items())
def test_verb_needs_its_variables_and_no_others(verb: str, demanded: tuple[str, ...]) -> None:
    complete = variables(verb)
    environment.read({name: complete[name] for name in ("CNI_COMMAND", *demanded)})
    for name in demanded:
        for absent in (
            {key: value for key, value in complete.items() if key != name},
            {**complete, name: ""},
        ):
            with refused(INVALID_ENVIRONMENT, f"required env variables [{name}] missing"):
                environment.read(absent)


@pytest.mark.parametrize(("verb", "demanded"), [one for one in DEMANDED.items() if one[1]])
def test_all_missing_variables_are_named_in_one_error(verb: str, demanded: tuple[str, ...]) -> None:
    with refused(INVALID_ENVIRONMENT, f"[{','.join(demanded)}]"):
        environment.read({"CNI_COMMAND": verb})


@given(any_text.filter(lambda verb: verb not in DEMANDED))
@example("add")
@example("ADD ")
@example("")
def test_any_other_verb_is_refused(verb: str) -> None:
    with refused(INVALID_ENVIRONMENT, "CNI_COMMAND", "ADD", "VERSION"):
        environment.read(variables(verb))


def test_values_are_taken_as_they_are() -> None:
    env = environment.read(
        variables("ADD", CNI_PATH="/opt/cni/bin::/usr/lib/cni:", CNI_ARGS="K8S_POD_NAME=cart", OTHER="x")
    )
    assert (env.command, env.container_id, env.netns, env.ifname) == ("ADD", "c1", "/run/netns/none", "eth0")
    assert env.path == ["/opt/cni/bin", "/usr/lib/cni"]
    assert env.args == {"K8S_POD_NAME": "cart"}
    assert env.variables["OTHER"] == "x"


@pytest.mark.parametrize(
    ("text", "override"),
    [("1", True), ("true", True), ("TRUE", True), ("", False), ("0", False), ("yes", False)],
)
def test_netns_override_is_1_or_true(text: str, override: bool) -> None:
    assert environment.read(variables("ADD", CNI_NETNS_OVERRIDE=text)).netns_override is override


# -- names

# pkg/utils/utils.go; \Z, because Go's $ does not match before a trailing newline.
IDENTIFIER = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.\-]*\Z")
# net/core/dev.c, dev_valid_name(); to the kernel, which sees bytes, 0xa0 is white space as well.
FORBIDDEN_BYTES = frozenset(b"/: \t\n\v\f\r\xa0\0")
near_identifiers = st.text(st.sampled_from("abzAZ019_.-/ @\n\0é"), max_size=8)


@given(any_text | near_identifiers)
@example("a\n")
@example("")
def test_identifier_is_what_the_reference_takes_for_one(text: str) -> None:
    assert environment.is_identifier(text) is bool(IDENTIFIER.match(text))


@given(any_text | near_identifiers)
def test_container_id_is_an_identifier(text: str) -> None:
    if not text:
        return
    if IDENTIFIER.match(text):
        assert environment.read(variables("ADD", CNI_CONTAINERID=text)).container_id == text
    else:
        with refused(INVALID_ENVIRONMENT, "CNI_CONTAINERID"):
            environment.read(variables("ADD", CNI_CONTAINERID=text))


def test_container_id_and_interface_name_fit_a_file_name() -> None:
    longest = "a" * environment.CONTAINER_ID_MAX
    environment.read(variables("ADD", CNI_CONTAINERID=longest))
    assert len(f".{longest}@{'i' * environment.IFNAME_MAX_BYTES}.json.tmp") <= 255  # NAME_MAX
    with refused(INVALID_ENVIRONMENT, "CNI_CONTAINERID", str(environment.CONTAINER_ID_MAX)):
        environment.read(variables("ADD", CNI_CONTAINERID=f"{longest}a"))


def accepts_interface_name(name: str) -> bool:
    try:
        environment.check_interface_name(name, "name")
    except CniError as error:
        assert error.code == INVALID_ENVIRONMENT
        assert error.msg.startswith("name: ")
        return False
    return True


def kernel_accepts(name: str) -> bool:
    """dev_valid_name() on the name's bytes."""
    try:
        octets = name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # cannot even be said to the kernel
        return False
    return 1 <= len(octets) <= 15 and octets not in (b".", b"..") and not FORBIDDEN_BYTES.intersection(octets)


@given(st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=18))
@example(".")
@example("..")
@example("...")
@example("a" * 15)
@example("a" * 16)
def test_interface_name_of_ascii_is_accepted_as_by_the_kernel(name: str) -> None:
    assert accepts_interface_name(name) is kernel_accepts(name)


@given(any_text | st.text(st.sampled_from("aé/:. \t\n\0\u00a0\u2003àà"), max_size=16))
@example("éééééééé")  # 16 bytes
@example("\x7f")
@example("\ud800")
@example("\udcff")
@example("à")  # its second byte is 0xa0
def test_interface_name_that_the_kernel_refuses_is_refused(name: str) -> None:
    if accepts_interface_name(name):
        assert kernel_accepts(name)


@pytest.mark.parametrize("name", ["eth0", "é", "イーサ0", "br-0.100@x", "-", "~", "a" * 15, "é" * 7])
def test_interface_name_may_be_any_printable_word(name: str) -> None:
    assert accepts_interface_name(name)


@pytest.mark.parametrize("verb", ["ADD", "CHECK", "DEL", "GC"])
def test_interface_name_and_namespace_are_checked_for_every_verb_that_gives_them(verb: str) -> None:
    with refused(INVALID_ENVIRONMENT, "CNI_IFNAME", "'a/b'"):
        environment.read(variables(verb, CNI_IFNAME="a/b"))
    with refused(INVALID_ENVIRONMENT, "CNI_NETNS"):
        environment.read(variables(verb, CNI_NETNS="/run/netns/a\0b"))


# -- CNI_ARGS

keys = st.text(st.characters(exclude_characters=";=", exclude_categories=()), min_size=1, max_size=8)
words = st.text(st.characters(exclude_characters=";", exclude_categories=()), max_size=8)


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("", {}),
        (";", {}),
        ("K8S_POD_NAME=a;K8S_POD_NAMESPACE=b", {"K8S_POD_NAME": "a", "K8S_POD_NAMESPACE": "b"}),
        (";K8S_POD_NAME=a;;", {"K8S_POD_NAME": "a"}),
        ("K8S_POD_NAME=", {"K8S_POD_NAME": ""}),
        ("K8S_POD_NAME=a=b", {"K8S_POD_NAME": "a=b"}),
        ("K8S_POD_NAME=a;K8S_POD_NAME=b", {"K8S_POD_NAME": "b"}),
        ("IgnoreUnknown=1;COLOUR=x", {"IgnoreUnknown": "1", "COLOUR": "x"}),
        ("COLOUR=x;IgnoreUnknown=TRUE", {"IgnoreUnknown": "TRUE", "COLOUR": "x"}),
        ("IP=192.168.12.9;MAC=02:00:00:00:00:07", {"IP": "192.168.12.9", "MAC": "02:00:00:00:00:07"}),
    ],
)
def test_arguments_are_pairs(text: str, pairs: dict[str, str]) -> None:
    assert environment.parse_args(text) == pairs


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("novalue", ["novalue", "KEY=VALUE"]),
        ("=x", ["=x", "KEY=VALUE"]),
        ("IgnoreUnknown=1;x", ["'x'"]),
        ("COLOUR=x", ["COLOUR", "IgnoreUnknown=1"]),
        ("IgnoreUnknown=0;COLOUR=x", ["COLOUR"]),
        ("IgnoreUnknown=;COLOUR=x", ["COLOUR"]),
        ("k8s_pod_name=a", ["k8s_pod_name"]),
    ],
)
def test_bad_arguments_are_named_and_overlooked_by_delete(text: str, words: list[str]) -> None:
    for verb in ("ADD", "CHECK"):
        with refused(INVALID_ENVIRONMENT, "CNI_ARGS", *words):
            environment.read(variables(verb, CNI_ARGS=text))
    for verb in ("DEL", "GC", "STATUS"):
        environment.read(variables(verb, CNI_ARGS=text))


@given(st.dictionaries(keys, words, max_size=5))
def test_any_pairs_come_back_as_they_were_put_together(pairs: dict[str, str]) -> None:
    pairs |= {"IgnoreUnknown": "1"}
    text = ";".join(f"{key}={value}" for key, value in pairs.items())
    assert environment.parse_args(text) == pairs


@given(any_text | st.text(st.sampled_from(";=aK8"), max_size=12))
def test_any_text_is_arguments_or_refused(text: str) -> None:
    environment.parse_args(text, lenient=True)
    try:
        environment.parse_args(text)
    except CniError as error:
        assert error.code == INVALID_ENVIRONMENT
