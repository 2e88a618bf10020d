"""What is wrong with a policy document, in a sentence that names the rule and the key."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ValidationError

from .complaints import show
from .keys import nearest
from .policy import ENP_KIND, FIREWALL_KIND

# An honest document is nine deep (the values of a nodeSelector's matchExpressions).
_DEPTH_MAX = 16
_KEYS_MAX = 64
INT_MAX = 1 << 63
_RULES = {
    "string_type": "a string is expected; put it into quotes",
    "list_type": "a list is expected",
    "tuple_type": "a list is expected",
    "dict_type": "an object is expected",
    "model_type": "an object is expected",
    "model_attributes_type": "an object is expected",
    "int_type": "a whole number is expected",
    "greater_than_equal": "a number from 1 to 65535 is expected",
    "less_than_equal": "a number from 1 to 65535 is expected",
}


def check_plain(document: object) -> None:
    """Nothing but what JSON knows, in strings that UTF-8 can carry, and nothing so deep or wide that it costs."""
    waiting: list[tuple[object, int]] = [(document, 0)]
    while waiting:
        value, depth = waiting.pop()
        if depth > _DEPTH_MAX:
            raise ValueError(f"the document is nested more than {_DEPTH_MAX} deep")
        if isinstance(value, dict):
            if len(value) > _KEYS_MAX:
                raise ValueError(f"an object has more than {_KEYS_MAX} keys")
            for key in value:
                _check_text(key)
            waiting += [(one, depth + 1) for one in value.values()]
        elif isinstance(value, list):
            waiting += [(one, depth + 1) for one in value]
        elif isinstance(value, str):
            _check_text(value)
        elif isinstance(value, int) and not -INT_MAX <= value < INT_MAX:
            raise ValueError("a number is too large")
        elif value is not None and not isinstance(value, int | float):
            raise ValueError(f"{type(value).__name__}: neither YAML nor JSON has such a value")


def _check_text(value: object) -> None:
    if not isinstance(value, str):
        raise ValueError("a key is a string; put it into quotes")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{show(value)}: half of a surrogate pair is no character") from None


def sentence(error: ValidationError, model: type[BaseModel]) -> str:
    """The first thing that is wrong, by rule and field, and how many more there are."""
    faults = error.errors(include_url=False)
    first = faults[0]
    where, kind = [str(part) for part in first["loc"]], first["type"]
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    if kind == "extra_forbidden":
        where, rule = where[:-1], _unknown(where[-1], where[:-1], model)
    elif kind == "missing":
        rule = "this key is required"
    elif kind == "literal_error":
        rule = f"{shown(first['input'])}: {first['ctx']['expected']} is expected"
    else:
        told = _RULES.get(kind, first["msg"].removeprefix("Value error, "))
        # Of containers the place is enough, where the rule speaks of what is in them.
        contained = kind == "value_error" and isinstance(first["input"], dict | list)
        rule = told if contained else f"{shown(first['input'])}: {told}"
    return f"{_place(where)}{rule}{more}"


def _place(where: list[str]) -> str:
    """`rule 3: to.cidrSelector: ` for `spec.egress.2.to.cidrSelector`."""
    if where[:2] == ["spec", "egress"] and len(where) > 2:
        number, field = int(where[2]) + 1, _dotted(where[3:])
        return f"rule {number}: {field}: " if field else f"rule {number}: "
    return f"{_dotted(where)}: " if where else ""


def _dotted(where: list[str]) -> str:
    return "".join(f"[{part}]" if part.isdigit() else f".{part}" for part in where).removeprefix(".")


def _unknown(key: str, where: list[str], model: type[BaseModel]) -> str:
    if model.__name__ == ENP_KIND and key in ("ports", "nodeSelector"):
        return f"an {ENP_KIND} has no {key}; write an {FIREWALL_KIND}"
    known = _known_keys(where, model)
    return f"unknown key {show(key)}{nearest(key, known)}"


def _known_keys(where: list[str], model: type[BaseModel]) -> list[str]:
    """The keys of the object at a place of a document."""
    at: Any = model
    for part in where:
        if not part.isdigit():
            field = next(one for name, one in at.model_fields.items() if (one.alias or name) == part)
            # A list's type has the type of its items as first argument.
            at = next(iter(getattr(field.annotation, "__args__", ())), field.annotation)
    return [one.alias or name for name, one in at.model_fields.items()]


def shown(value: object) -> str:
    """A value in an error: containers, which may be deep, by their kind only."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    if isinstance(value, int) and not -INT_MAX <= value < INT_MAX:
        return "a huge number"
    return "null" if value is None else show(value)
