# SPDX-License-Identifier: Apache-2.0
"""Checks a document against the parts of OpenAPI 3.0 that api/openapi.yaml uses (https://spec.openapis.org/oas/v3.0.3).

Debian has no package with a validator of OpenAPI 3. This one knows the keys that each object may have and must have, follows
references, and holds examples and defaults to their schemas.
"""

import re

METHODS = ("get", "put", "patch", "delete", "post", "head", "options", "trace")
# Keys of each kind of object: those that it must have, and those that it may have.
OBJECTS = {
    "document": ({"openapi", "info", "paths"}, {"components", "servers", "tags", "security", "externalDocs"}),
    "info": ({"title", "version"}, {"description", "license", "contact", "termsOfService"}),
    "path": (set(), {"summary", "description", "parameters", "servers", *METHODS}),
    "operation": ({"responses"}, {"summary", "description", "operationId", "parameters", "requestBody", "tags", "deprecated"}),
    "parameter": ({"name", "in"}, {"description", "required", "deprecated", "schema", "example"}),
    "body": ({"content"}, {"description", "required"}),
    "response": ({"description"}, {"headers", "content"}),
    "media": (set(), {"schema", "example", "examples", "encoding"}),
    "schema": (set(), {"type", "properties", "required", "items", "enum", "description", "default", "minimum", "maximum", "nullable", "pattern",
                       "additionalProperties", "minProperties", "minItems", "maxLength", "minLength", "example", "format", "deprecated"}),
    "components": (set(), {"schemas", "responses", "parameters", "requestBodies"}),
}
TYPES = {"object": dict, "array": list, "string": str, "integer": int, "number": (int, float), "boolean": bool}


class Checker:
    def __init__(self, document):
        self.document = document
        self.faults = []

    def fault(self, where, what):
        self.faults.append(f"{where}: {what}")

    def resolve(self, item, where):
        while isinstance(item, dict) and "$ref" in item:
            target = self.document
            for name in item["$ref"].removeprefix("#/").split("/"):
                target = target.get(name) if isinstance(target, dict) else None
            if target is None:
                self.fault(where, f"{item['$ref']} does not exist")
                return {}
            item = target
        return item

    def keys(self, item, kind, where):
        """The object at a place, after its references; its keys are checked."""
        item = self.resolve(item, where)
        if not isinstance(item, dict):
            self.fault(where, f"is no {kind}")
            return {}
        must, may = OBJECTS[kind]
        for key in must - set(item):
            self.fault(where, f"lacks {key}")
        for key in item:
            if key not in must | may and not str(key).startswith("x-"):
                self.fault(where, f"may not have {key!r}")
        return item

    def check(self):
        document = self.keys(self.document, "document", "document")
        if not re.fullmatch(r"3\.0\.\d+", str(document.get("openapi"))):
            self.fault("openapi", "is not 3.0.x")
        self.keys(document.get("info"), "info", "info")
        components = self.keys(document.get("components", {}), "components", "components")
        for name, schema in components.get("schemas", {}).items():
            self.schema(schema, f"schemas/{name}")
        for name, body in components.get("requestBodies", {}).items():
            self.content(self.keys(body, "body", name), f"requestBodies/{name}")
        for name, response in components.get("responses", {}).items():
            self.content(self.keys(response, "response", name), f"responses/{name}")
        for path, item in document.get("paths", {}).items():
            self.path(path, self.keys(item, "path", path))
        return self.faults

    def path(self, path, item):
        if not path.startswith("/"):
            self.fault(path, "does not begin with a slash")
        for method in METHODS:
            if method not in item:
                continue
            where = f"{method.upper()} {path}"
            operation = self.keys(item[method], "operation", where)
            parameters = [self.keys(one, "parameter", where) for one in item.get("parameters", []) + operation.get("parameters", [])]
            declared = {one.get("name") for one in parameters if one.get("in") == "path"}
            if declared != set(re.findall(r"\{(\w+)\}", path)):
                self.fault(where, "its path's parameters and those that are declared differ")
            for parameter in parameters:
                self.schema(parameter.get("schema", {}), where)
                if parameter.get("in") == "path" and parameter.get("required") is not True:
                    self.fault(where, "a parameter of a path must be required")
            if "requestBody" in operation:
                self.content(self.keys(operation["requestBody"], "body", where), where)
            if not operation.get("responses"):
                self.fault(where, "has no responses")
            for status, response in operation.get("responses", {}).items():
                if not isinstance(status, str) or not re.fullmatch(r"[1-5](\d\d|XX)|default", status):
                    self.fault(where, f"{status!r} is no status; it must be a string")
                self.content(self.keys(response, "response", where), where)

    def content(self, owner, where):
        for media_type, media in owner.get("content", {}).items():
            if not re.fullmatch(r"[a-z]+/[a-z.+*-]+", media_type):
                self.fault(where, f"{media_type} is no media type")
            media = self.keys(media, "media", where)
            self.schema(media.get("schema", {}), where)
            for example in examples(media):
                self.value(example, media.get("schema", {}), f"{where}: example")

    def schema(self, schema, where, seen=()):
        schema = self.resolve(schema, where)
        if id(schema) in seen:
            return
        schema = self.keys(schema, "schema", where)
        seen = (*seen, id(schema))
        kind = schema.get("type")
        if kind is not None and kind not in TYPES:
            self.fault(where, f"type {kind!r} does not exist")
        if (kind == "array") != ("items" in schema):
            self.fault(where, "arrays, and nothing else, have items")
        for name in schema.get("required", []):
            if name not in schema.get("properties", {}):
                self.fault(where, f"requires {name}, which is no property")
        for name, part in schema.get("properties", {}).items():
            self.schema(part, f"{where}/{name}", seen)
        for part in (schema.get("items"), schema.get("additionalProperties")):
            if isinstance(part, dict):
                self.schema(part, where, seen)
        if "pattern" in schema:
            re.compile(schema["pattern"])
        for key in ("default", "example"):
            if key in schema:
                self.value(schema[key], schema, f"{where}: {key}")
        for one in schema.get("enum", []):
            self.value(one, {key: value for key, value in schema.items() if key != "enum"}, f"{where}: enum")

    def value(self, value, schema, where):
        """A value against its schema."""
        schema = self.resolve(schema, where)
        if value is None:
            if not schema.get("nullable") and "type" in schema:
                self.fault(where, "may not be null")
            return
        kind = schema.get("type")
        if kind and (not isinstance(value, TYPES[kind]) or (isinstance(value, bool) and kind != "boolean")):
            self.fault(where, f"{value!r} is no {kind}")
            return
        if "enum" in schema and value not in schema["enum"]:
            self.fault(where, f"{value!r} is none of {schema['enum']}")
        if kind in ("integer", "number") and not schema.get("minimum", value) <= value <= schema.get("maximum", value):
            self.fault(where, f"{value} is out of range")
        if kind == "string" and "pattern" in schema and not re.search(schema["pattern"], value):
            self.fault(where, f"{value!r} does not match {schema['pattern']}")
        if kind == "string" and len(value) > schema.get("maxLength", len(value)):
            self.fault(where, f"{value!r} is too long")
        if kind == "array":
            if len(value) < schema.get("minItems", 0):
                self.fault(where, "has too few items")
            for item in value:
                self.value(item, schema["items"], where)
        if kind == "object":
            self.members(value, schema, where)

    def members(self, value, schema, where):
        for name in schema.get("required", []):
            if name not in value:
                self.fault(where, f"lacks {name}")
        if len(value) < schema.get("minProperties", 0):
            self.fault(where, "has too few members")
        more = schema.get("additionalProperties", True)
        for name, member in value.items():
            part = schema.get("properties", {}).get(name, more)
            if part is False:
                self.fault(where, f"may not have {name}")
            elif isinstance(part, dict):
                self.value(member, part, f"{where}/{name}")


def examples(media):
    """The values of the examples of a media type object."""
    return ([media["example"]] if "example" in media else []) + [one["value"] for one in media.get("examples", {}).values()]


def faults(document):
    """What is wrong with a document, one line for each fault."""
    return Checker(document).check()
