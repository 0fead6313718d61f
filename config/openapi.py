"""Adds to the API description the rules of all views (docs/api.md)."""

from http import HTTPStatus
from typing import Any, Final

from config.problems import CONTENT_TYPE

Node = dict[str, Any]

REFERENCE: Final = {"$ref": "#/components/schemas/Problem"}
PROBLEM: Final[Node] = {
    "type": "object",
    "description": "An error (RFC 9457). Some types have more members.",
    "properties": {
        "type": {"type": "string", "format": "uri-reference"},
        "title": {"type": "string"},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {"type": "string"},
        "instance": {"type": "string", "description": "The path of the request."},
        "errors": {
            "type": "object",
            "description": "The messages of each invalid field.",
            "additionalProperties": {},
        },
    },
    "required": ["type", "title", "status", "detail", "instance"],
}
NO_NUL: Final = r"^[^\u0000]*$"
RETRY_AFTER: Final[Node] = {"Retry-After": {"schema": {"type": "integer", "minimum": 0}}}


def document_rules(result: Node, **_: Any) -> Node:
    """drf-spectacular's hook. A view declares its own errors, each with its description."""
    result["components"]["schemas"]["Problem"] = PROBLEM
    for operations in result["paths"].values():
        for method, operation in operations.items():
            for parameter in operation.get("parameters", ()):
                if parameter["in"] == "query":
                    _document_query(parameter)
            operation["responses"] = _responses(method, operation)
    return result


def _document_query(parameter: Node) -> None:
    # A form sends a filter without a value.
    parameter["allowEmptyValue"] = parameter["name"] != "page_size"
    if parameter["schema"] == {"type": "string"}:
        parameter["schema"] = {"type": "string", "pattern": NO_NUL}


def _responses(method: str, operation: Node) -> Node:
    responses = {str(status): Node() for status in _errors(method, operation)}
    responses |= operation["responses"]
    for status, response in responses.items():
        if status >= "400":
            response.setdefault("description", HTTPStatus(int(status)).phrase)
            response["content"] = {CONTENT_TYPE: {"schema": REFERENCE}}
        if status in {"429", "503"}:
            response["headers"] = RETRY_AFTER
    if method == "get":
        responses["304"] = {"description": "Not modified, for If-None-Match"}
    return dict(sorted(responses.items()))


def _errors(method: str, operation: Node) -> set[int]:
    """The errors that every view with this method, these parameters and this security has."""
    errors = {400, 401, 406, 429, 503}
    if operation.get("security", [{}]) != [{}]:
        errors.add(403)
    # A malformed cursor is 404, as is a page that doesn't exist.
    if any(
        each["in"] == "path" or each["name"] == "cursor" for each in operation.get("parameters", ())
    ):
        errors.add(404)
    if method != "get":
        errors |= {413, 415}
    return errors
