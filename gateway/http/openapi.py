"""The OpenAPI document of the pages, made of their table and of the types that they read and write."""

import re
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import Any

import msgspec

from gateway.http.bodies import JSON
from gateway.http.failure import Problem
from gateway.http.logged import ID
from gateway.http.pages import Page, Parameter, Reply

REFUSALS = {
    400: "Something in the request is not as it should be; `error.message` names it.",
    401: "No token was sent, or one that is not known.",
    403: "The token does not allow it, or the request comes from somebody else's web page.",
    404: "There is no such thing.",
    408: "The body did not arrive in time.",
    409: "It can't be done as things stand.",
    413: "More than is taken.",
    415: "The body is called something that is not taken.",
    429: "Too many requests; `Retry-After` says when to come back.",
    500: "A mistake of Victoria's.",
    503: "Too much waits already, or something that is needed is away; `Retry-After` says when to try again.",
}
EVENT = {
    "type": "object",
    "properties": {"id": {"type": "string"}, "event": {"type": "string"}, "data": {"type": "string"}},
}
OTHERWISE = {"text/event-stream": EVENT}
"""What an answer that is no JSON is made of, where that is not just text."""
ANY, WITH_BODY, WITH_ID = (401, 403, 429, 500, 503), (400, 408, 413, 415), (404,)
ALWAYS = {ID: "The id of this request in the log; yours, if you sent one."}
WAITS = {"Retry-After": "Seconds to wait."}
ABOUT = """Victoria turns a goal in plain words into finished work: `POST /run` takes it, and
`GET /run/status/{task_id}` says where it stands. Every error has the same shape: a stable `code`, a `message`, and a
`hint` that says what to do."""


def document(pages: Iterable[Page], names: Mapping[str, Mapping[str, list[str]]] | None = None) -> dict[str, Any]:
    """The document. `names` are values that are known at start only, by schema and field: `{"RunRequest": {"strategy":
    ["simple"]}}`."""
    pages = [page for page in pages if page.listed]
    shapes: list[Any] = [Problem]
    for page in pages:
        shapes += [page.body] if page.body else []
        shapes += [each.shape for each in page.parameters]
        shapes += [reply.shape for reply in page.replies.values() if reply.shape is not None]
    found, components = msgspec.json.schema_components(shapes, ref_template="#/components/schemas/{name}")
    for name, fields in (names or {}).items():
        for field, values in fields.items():
            components[name]["properties"][field] = {"enum": [*values, None]}
    schemas = iter(found)
    problem, paths = next(schemas), dict[str, dict[str, Any]]()
    for page in pages:
        path = re.sub(r":\w+}", "}", page.path)
        paths.setdefault(path, {})[page.method.lower()] = _operation(page, problem, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Victoria",
            "version": version("victoria-streams"),
            "description": ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A token of `victoria token create`. A door on loopback may do without.",
                }
            },
        },
    }


def _operation(page: Page, problem: Any, schemas: Any) -> dict[str, Any]:
    """One page's; takes the schemas of its shapes, in their order."""
    made: dict[str, Any] = {"operationId": page.name, "summary": page.summary, "tags": [page.tag]}
    made["security"] = [{"bearer": [page.scope]}, {}] if page.scope else []
    body = next(schemas) if page.body else None
    ids = re.findall(r"{(\w+)", page.path)
    parameters = [_id(name) for name in ids] + [_parameter(each, next(schemas)) for each in page.parameters]
    if parameters:
        made["parameters"] = parameters
    if page.body:
        needs = any(field.required for field in msgspec.structs.fields(page.body))
        made["requestBody"] = {"required": needs, "content": {JSON: {"schema": body}}}
    answers = {
        status: _reply(reply, next(schemas) if reply.shape is not None else None)
        for status, reply in page.replies.items()
    }
    refusals = {*page.refusals, *ANY, *(WITH_BODY if page.body else ()), *(WITH_ID if ids else ())}
    if page.parameters:
        refusals.add(400)
    for status in sorted(refusals - answers.keys()):
        answers[status] = _reply(Reply(REFUSALS[status], headers=WAITS if status in (429, 503) else {}), problem)
    made["responses"] = {str(status): answers[status] for status in sorted(answers)}
    return made


def _id(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}


def _parameter(parameter: Parameter, schema: Any) -> dict[str, Any]:
    return {"name": parameter.name, "in": parameter.where, "description": parameter.says, "schema": schema}


def _reply(reply: Reply, schema: Any) -> dict[str, Any]:
    made: dict[str, Any] = {"description": reply.says}
    text = {"type": "string"}
    made["headers"] = {name: {"description": says, "schema": text} for name, says in (ALWAYS | reply.headers).items()}
    if reply.links:
        made["links"] = {
            name: {"operationId": name, "parameters": {at.rpartition("/")[2]: f"$response.body#/{at}"}}
            for name, at in reply.links.items()
        }
    if reply.media:
        made["content"] = {reply.media: {"schema": schema if schema is not None else OTHERWISE.get(reply.media, text)}}
    return made
