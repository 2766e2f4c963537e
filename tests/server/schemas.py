"""More than fifty bounded JSON Schemas: whatever a model says within one of them comes to an end."""
import datetime
import enum
import typing
import uuid

import pydantic

S = {"type": "string", "maxLength": 12}
I = {"type": "integer", "minimum": 0, "maximum": 999}
B = {"type": "boolean"}
N = {"type": "null"}


def obj(properties, required=None, **more):
    return {"type": "object", "properties": properties,
            "required": list(properties) if required is None else required,
            "additionalProperties": False, **more}


def arr(items, low=0, high=3, **more):
    return {"type": "array", "items": items, "minItems": low, "maxItems": high, **more}


class Color(str, enum.Enum):
    red = "red"
    green = "green"


class Step(pydantic.BaseModel):
    explanation: str = pydantic.Field(max_length=15, description="why")
    output: str = pydantic.Field(max_length=10)


class Maths(pydantic.BaseModel):
    """An answer by steps."""
    steps: list[Step] = pydantic.Field(max_length=2)
    final_answer: str = pydantic.Field(max_length=10)


class Person(pydantic.BaseModel):
    name: str = pydantic.Field(min_length=1, max_length=12)
    age: int = pydantic.Field(ge=0, le=130)
    height: float = pydantic.Field(gt=0, lt=3)
    color: Color = Color.red
    nickname: typing.Optional[str] = pydantic.Field(default=None, max_length=8)


class Cat(pydantic.BaseModel):
    kind: typing.Literal["cat"]
    lives: int = pydantic.Field(ge=1, le=9)


class Dog(pydantic.BaseModel):
    kind: typing.Literal["dog"]
    good: bool


class Owner(pydantic.BaseModel):
    pet: typing.Union[Cat, Dog] = pydantic.Field(discriminator="kind")
    born: datetime.date
    id: uuid.UUID


class Point(pydantic.BaseModel):
    at: tuple[int, int]
    tags: dict[str, bool] = pydantic.Field(max_length=1)

    @staticmethod
    def bounded():
        schema = Point.model_json_schema()
        schema["properties"]["at"]["prefixItems"] = [I, I]
        schema["properties"]["tags"]["propertyNames"] = {"maxLength": 5}
        return schema


class Palette(pydantic.BaseModel):
    """What pydantic makes of sets and of keys out of a list: uniqueItems and propertyNames."""
    colors: set[Color] = pydantic.Field(min_length=1)
    flags: set[bool]
    weights: dict[typing.Literal["a", "b"], typing.Annotated[int, pydantic.Field(ge=0, le=9)]]


PYDANTIC = [Step, Maths, Person, Cat, Dog, Owner, Palette]

# As servers of the Model Context Protocol state what their tools take.
MCP = [
    obj({"path": {"type": "string", "description": "a file", "pattern": "^/[a-z]{1,8}$"}}),
    {"type": "object", "properties": {"query": {**S, "title": "Query"},
                                      "limit": {**I, "default": 10}}, "required": ["query"],
     "$schema": "http://json-schema.org/draft-07/schema#"},
    obj({"owner": S, "repo": S, "state": {"enum": ["open", "closed", "all"]}}, ["owner", "repo"]),
    obj({"edits": arr(obj({"old": S, "new": S}), 1, 2), "dry_run": {**B, "default": False}}),
    obj({"timezone": {**S, "description": "IANA"}, "time": {"type": "string",
                                                           "pattern": r"^\d{2}:\d{2}$"}}),
    {"type": "object", "properties": {}, "additionalProperties": False},
    obj({"url": {"type": "string", "format": "uri", "maxLength": 30},
         "raw": B, "max_length": {"anyOf": [I, N]}}, ["url"]),
    obj({"entities": arr(obj({"name": S, "kind": S, "notes": arr(S, 0, 1)}), 1, 1)}),
]

# As zod's converters write what may be missing, and what nothing is.
ZOD = [
    obj({"name": {"anyOf": [{"not": {}}, S]}, "mode": {"enum": ["r", "w"]}}),
    {"type": "object", "propertyNames": {"enum": ["x", "y"]}, "additionalProperties": I},
    arr({"enum": ["a", "b", "c", 1, 2]}, 2, 4, uniqueItems=True),
    obj({"word": {"type": "string", "maxLength": 2, "not": {"enum": ["", "no"]}}}),
]

PLAIN = [
    obj({"a": S}), obj({"a": I, "b": B}), obj({"a": arr(I)}),
    obj({"a": S, "b": S, "c": S}, []), obj({"a": S, "b": I}, ["b"]),
    arr(I, 1, 4), arr(S, 2, 2), arr(obj({"x": I})),
    {"enum": ["yes", "no", 3, None, True]}, {"const": {"x": [1, 2]}}, B, N, I, S,
    {"type": "number", "minimum": -2.5, "maximum": 2.5},
    {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
    {"type": "integer", "multipleOf": 7, "minimum": 0, "maximum": 700},
    {"type": "integer", "minimum": -20, "maximum": -3},
    {"type": "string", "minLength": 4, "maxLength": 4},
    {"type": "string", "pattern": r"^[A-Z]{2}-\d{3}$"},
    {"type": "string", "pattern": r"\d", "maxLength": 5},
    {"type": "string", "pattern": r"^(?:\w+\s)?\w+$", "maxLength": 10},
    {"type": "string", "format": "date"}, {"type": "string", "format": "date-time"},
    {"type": "string", "format": "uuid"}, {"type": "string", "format": "ipv4"},
    {"type": "string", "format": "email", "maxLength": 20},
    {"anyOf": [S, I, arr(B)]},
    {"oneOf": [obj({"t": {"const": "a"}, "x": I}), obj({"t": {"const": "b"}, "y": S})]},
    {"allOf": [obj({"a": I}), {"properties": {"a": {"maximum": 5}}}]},
    {"type": "array", "prefixItems": [S, I], "items": False, "minItems": 2},
    {"type": "object", "additionalProperties": I, "maxProperties": 2,
     "propertyNames": {"maxLength": 4}},
    {"type": "object", "patternProperties": {"^n_[a-z]$": I}, "additionalProperties": False,
     "maxProperties": 2},
    {"$defs": {"leaf": obj({"v": I}), "pair": obj({"l": {"$ref": "#/$defs/leaf"},
                                                   "r": {"$ref": "#/$defs/leaf"}})},
     "$ref": "#/$defs/pair"},
    {"$defs": {"list": obj({"v": {"type": "integer", "minimum": 0, "maximum": 9},
                            "next": {"anyOf": [N, {"$ref": "#/$defs/list"}]}})},
     "$ref": "#/$defs/list"},
]

SCHEMAS = [*(model.model_json_schema() for model in PYDANTIC), Point.bounded(), *MCP, *ZOD, *PLAIN]
assert len(SCHEMAS) == 55, len(SCHEMAS)
