"""A CNI configuration as the text that somebody else has written: our entry goes in and comes out, all else stays.

Nothing is decoded and written anew, so that key order, indentation, escapes, forms of numbers and line ends remain as
they are, byte for byte; taking the entry out of what with_entry() has made gives back the text before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..protocol import environment, versions
from ..protocol.errors import DECODING_FAILURE, INVALID_CONFIGURATION, CniError
from .complaints import show
from .conflist_json import Part, items, members, whole
from .conflist_style import Style, indentation_of, style_of

TYPE = "macvlan-egress"
_DISABLE_CHECK = "disableCheck"


@dataclass(frozen=True, slots=True)
class Conflist:
    """A configuration that has been understood.

    Attributes:
        name: of the network.
        types: of its plugins, in order.
        disables_check: whether runtimes are told not to run CHECK.
    """

    text: str
    name: str
    types: tuple[str, ...]
    disables_check: bool
    _root: Part
    _members: dict[str, Part]
    _plugins: tuple[Part, ...]

    @property
    def entry(self) -> dict[str, Any] | None:
        """Our entry, if it is there."""
        position = self._position
        return None if position is None else self._plugins[position].value

    @property
    def stands_alone(self) -> bool:
        """Whether the network is one of ours, so that there is nothing to chain after."""
        return self.types[:1] == (TYPE,)

    def with_entry(self, entry: dict[str, Any], *, disable_check: bool = False) -> str:
        """The text with our entry as the last plugin, or with its new content where it stands.

        Args:
            disable_check: also tell runtimes not to run CHECK.
        """
        text = self._insert(entry) if self.entry is None else self._replace(entry)
        if not disable_check or self.disables_check:
            return text
        # It stands before the plugins, whose places in the text may have changed.
        at = self._members["plugins"].key_start
        white = text[len(text[:at].rstrip()) : at]
        colon = style_of(self.text, self._plugins[0]).colon
        return f'{text[:at]}"{_DISABLE_CHECK}"{colon}true,{white}{text[at:]}'

    def without_entry(self, *, enable_check: bool = False) -> str:
        """The text without our entry.

        Args:
            enable_check: also take out the key that with_entry() has put in.

        Raises:
            CniError: INVALID_CONFIGURATION if nothing would remain.
        """
        cuts = [self._cut_of_entry()] if self.entry is not None else []
        if enable_check and _DISABLE_CHECK in self._members:
            cuts.append(_cut(list(self._members.values()), list(self._members).index(_DISABLE_CHECK)))
        text = self.text
        for start, end in sorted(cuts, reverse=True):
            text = text[:start] + text[end:]
        return text

    def as_list(self, entry: dict[str, Any], *, disable_check: bool = False) -> str:
        """A list of what was a single plugin and of our entry, as libcni's ConfListFromConf makes one of it."""
        style = style_of(self.text, self._root)
        if not style.newline:  # what stands in one line is a plugin's line in the list
            style = Style("\n", "  ", ": ", ", ")
        newline, unit = style.newline, style.unit
        inner = unit * 2
        lines = "\n".join(
            inner + line if number and line.strip() else line
            for number, line in enumerate(self.text.strip().split("\n"))
        )
        head = [
            f'"{key}": {self.text[part.start : part.end]}'
            for key in ("cniVersion", "name")
            if (part := self._members.get(key))
        ]
        if disable_check:
            head.append(f'"{_DISABLE_CHECK}": true')
        ours = style.render(entry, inner, spread=True)
        plugins = f'"plugins": [{newline}{inner}{lines},{newline}{inner}{ours}{newline}{unit}]'
        body = f",{newline}{unit}".join((*head, plugins))
        return f"{{{newline}{unit}{body}{newline}}}{newline}"

    @property
    def _position(self) -> int | None:
        return self.types.index(TYPE) if TYPE in self.types else None

    def _cut_of_entry(self) -> tuple[int, int]:
        if len(self._plugins) == 1:
            raise CniError(
                INVALID_CONFIGURATION,
                f"network {self.name!r} has no plugin but {TYPE!r}: it is a network of its own, not an installed "
                "entry; remove the file if you want it gone",
            )
        return _cut(list(self._plugins), self._position or 0)

    def _insert(self, entry: dict[str, Any]) -> str:
        text, last = self.text, self._plugins[-1]
        return text[: last.end] + self._gap() + self._rendered(entry, last) + text[last.end :]

    def _replace(self, entry: dict[str, Any]) -> str:
        text, position = self.text, self._position or 0
        old = self._plugins[position]
        if old.value == entry and list(old.value) == list(entry):
            return text
        return text[: old.start] + self._rendered(entry, old) + text[old.end :]

    def _rendered(self, entry: dict[str, Any], beside: Part) -> str:
        style = style_of(self.text, beside)
        return style.render(entry, indentation_of(self.text, beside), spread=True)

    def _gap(self) -> str:
        """What stands between two plugins: as between the last two, else as before the only one."""
        text, last = self.text, self._plugins[-1]
        if len(self._plugins) > 1:
            return text[self._plugins[-2].end : last.start]
        white = text[self._members["plugins"].start + 1 : last.start]
        if not white and "\n" in text[last.start : last.end]:
            white = " "
        return f",{white}"


def parse(text: str, *, listed: bool) -> Conflist:
    """Understand a configuration.

    Args:
        listed: whether runtimes expect a list of plugins (.conflist), or a single one.

    Raises:
        CniError: DECODING_FAILURE, INVALID_CONFIGURATION: no runtime could use it, or it is not clear what it says.
    """
    try:
        root = whole(text)
    except ValueError as error:
        raise CniError(DECODING_FAILURE, f"it is not JSON: {error}") from None
    if not isinstance(root.value, dict):
        raise CniError(DECODING_FAILURE, "it is not a JSON object")
    found = members(text, root)
    by_key = {part.key: part for part in found}
    if len(by_key) != len(found):
        twice = next(key for key in by_key if sum(part.key == key for part in found) > 1)
        raise CniError(DECODING_FAILURE, f"the key {show(twice)} stands twice in it")
    _check_network(root.value)
    if listed:
        plugins = tuple(_plugins(text, by_key))
    elif "plugins" in by_key:
        raise CniError(
            INVALID_CONFIGURATION,
            "it has a list of plugins, which runtimes read only in files named .conflist; rename it",
        )
    else:
        plugins = (root,)
    types = tuple(_type(part.value) for part in plugins)
    if types.count(TYPE) > 1:
        raise CniError(INVALID_CONFIGURATION, f"the plugin {TYPE!r} stands twice in it; remove one entry")
    disables = root.value.get(_DISABLE_CHECK) in (True, "true")
    return Conflist(text, root.value["name"], types, disables, root, by_key, plugins)


def _cut(parts: list[Part], number: int) -> tuple[int, int]:
    """What to take out so that one of several parts and the separator beside it are gone."""
    if number and parts[number].key != _DISABLE_CHECK:
        return parts[number - 1].end, parts[number].end
    if number + 1 < len(parts):  # as with_entry() puts the key: before another one
        return parts[number].key_start, parts[number + 1].key_start
    return parts[number - 1].end, parts[number].end


def _check_network(value: dict[str, Any]) -> None:
    name = value.get("name")
    if not isinstance(name, str) or not environment.is_identifier(name):
        raise CniError(INVALID_CONFIGURATION, f"its network name {show(name)} is missing or malformed")
    versions.check(value.get("cniVersion"), "ADD")


def _plugins(text: str, by_key: dict[str, Part]) -> list[Part]:
    listed = by_key.get("plugins")
    if listed is None or not isinstance(listed.value, list) or not listed.value:
        raise CniError(INVALID_CONFIGURATION, "it has no plugins to chain after")
    return items(text, listed)


def _type(plugin: object) -> str:
    kind = plugin.get("type") if isinstance(plugin, dict) else None
    if not isinstance(kind, str) or not kind:
        raise CniError(INVALID_CONFIGURATION, f"a plugin in it has no type: {show(plugin)}")
    return kind
