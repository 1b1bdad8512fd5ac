"""Google's Schema objects (a part of OpenAPI 3.0) as JSON schema.

Types are upper-case words, `nullable` stands beside them, and whole numbers may be text.
Source: Gemini API reference, `Schema`.
"""

from typing import Any

from proxy.formats.gemini.fields import Body, camel, mapping, optional_count, sequence, wrong

MAX_DEPTH = 64
_TYPES = frozenset({"string", "number", "integer", "boolean", "array", "object", "null"})
_COUNTS = frozenset(
    {"minItems", "maxItems", "minProperties", "maxProperties", "minLength", "maxLength"}
)
# Formats of OpenAPI that JSON schema does not know, and fields that only Google reads.
_FOREIGN_FORMATS = frozenset({"enum", "int32", "int64", "float", "double", "byte"})
_LEFT_OUT = frozenset({"nullable", "propertyOrdering", "example"})
_NAMED = frozenset({"properties", "$defs", "defs"})
_LISTS = frozenset({"anyOf", "allOf", "oneOf", "prefixItems"})


def json_schema(value: Any, where: str, depth: int = 0) -> Body:
    """`value` as JSON schema; a schema that is one already comes out as it is.

    Raises `InvalidRequest` for what is no schema or is nested deeper than `MAX_DEPTH`.
    """
    if depth > MAX_DEPTH:
        raise wrong(where, f"a schema of at most {MAX_DEPTH} levels")
    schema: Body = {}
    given = mapping(value, where)
    for key, one in given.items():
        name = camel(key)
        at = f"{where}.{name}"
        if one is None and name not in ("default", "const"):
            continue
        if name == "type":
            _write_type(schema, one, at)
        elif name in _COUNTS:
            schema[name] = optional_count(one, at)
        elif name == "format":
            if one not in _FOREIGN_FORMATS:
                schema[name] = one
        elif name in _NAMED:
            named = mapping(one, at)
            schema[name] = {k: json_schema(v, f"{at}.{k}", depth + 1) for k, v in named.items()}
        elif name in _LISTS:
            inner = sequence(one, at)
            schema[name] = [json_schema(v, f"{at}[{i}]", depth + 1) for i, v in enumerate(inner)]
        elif name in ("items", "additionalProperties") and isinstance(one, dict):
            schema[name] = json_schema(one, at, depth + 1)
        elif name not in _LEFT_OUT:
            schema[name] = one
    return _nullable(schema) if given.get("nullable") is True else schema


def _write_type(schema: Body, given: Any, where: str) -> None:
    if isinstance(given, list):
        schema["type"] = [_word(one, where) for one in given]
        return
    word = _word(given, where)
    if word != "type_unspecified":
        schema["type"] = word


def _word(given: Any, where: str) -> str:
    word = given.lower() if isinstance(given, str) else ""
    if word in _TYPES or word == "type_unspecified":
        return word
    raise wrong(where, "one of STRING, NUMBER, INTEGER, BOOLEAN, ARRAY, OBJECT")


def _nullable(schema: Body) -> Body:
    kind = schema.get("type")
    if not isinstance(kind, str):
        return {"anyOf": [schema, {"type": "null"}]}
    schema["type"] = [kind, "null"]
    if isinstance(schema.get("enum"), list):
        schema["enum"] = [*schema["enum"], None]
    return schema
