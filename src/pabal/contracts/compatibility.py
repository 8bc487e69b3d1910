"""What a change of the contracts would break. Pure.

Both ways count: new readers read what old writers wrote (it is in the log), old readers read what new writers write
(roles are upgraded one by one, and others read on with what they learnt). What remains: a field may be added if nobody
must send it, a word where the words are open, a schema, a topic, a message. Everything else needs a new major version.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import msgspec

from pabal.contracts.schemas import OPEN_WORDS, Json

_PROSE: Final = frozenset({"$schema", "$id", "$defs", "title", "description", "examples"})
_COMPARED_APART: Final = frozenset(
    {"$ref", "anyOf", "type", "enum", "const", OPEN_WORDS, "properties", "required", "items", "default"}
)


class Break(msgspec.Struct, frozen=True, order=True):
    """What broke, and where (`$.content.title`)."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


def find_breaks(old: Mapping[str, Json], new: Mapping[str, Json]) -> list[Break]:
    """What in `new` breaks with `old`; both by file name. `asyncapi.json` is the description of the topics."""
    breaks: list[Break] = []
    for file, schema in sorted(old.items()):
        if file not in new:
            breaks.append(Break(file, "is gone; its records are still in the log"))
        elif file == "asyncapi.json":
            breaks += _compare_topics(schema, new[file])
        else:
            breaks += [Break(f"{file}: {each.path}", each.message) for each in compare_schemas(schema, new[file])]
    return breaks


def compare_schemas(old: Json, new: Json) -> list[Break]:
    """What in one schema breaks with its former self. References are to `$defs` of the same schema."""
    return sorted(set(_Comparison(old, new).compare(old, new, path="$")))


def _compare_topics(old: Json, new: Json) -> Iterator[Break]:
    """Addresses, which messages stand on them, keys and headers; the values have schemas of their own."""
    for name, topic in old["channels"].items():
        path = f"asyncapi.json: {topic['address']}"
        if (now := new["channels"].get(name)) is None or now["address"] != topic["address"]:
            yield Break(path, "is gone")
            continue
        for message in topic["messages"]:
            if message not in now["messages"]:
                yield Break(path, f"carries no {message} any more")
    for name, message in old["components"]["messages"].items():
        now = new["components"]["messages"].get(name)
        if now is None:
            continue  # Told above: nothing carries it.
        path = f"asyncapi.json: {name}"
        if now["payload"] != message["payload"]:
            yield Break(f"{path}.value", "is another record")
        if now["bindings"]["kafka"]["key"] != message["bindings"]["kafka"]["key"]:
            yield Break(f"{path}.key", "is made of other things; what had one key may now stand in two partitions")
        for each in compare_schemas(message["headers"], now["headers"]):
            yield Break(each.path.replace("$", f"{path}.headers", 1), each.message)


class _Comparison:
    def __init__(self, old: Json, new: Json) -> None:
        self._old_definitions = old.get("$defs", {})
        self._new_definitions = new.get("$defs", {})
        self._under_way: set[tuple[int, int]] = set()

    def compare(self, old: Json, new: Json, *, path: str) -> Iterator[Break]:
        """The breaks between two schemas, each with the schemas below it."""
        if old.get("default", _ABSENT) != new.get("default", _ABSENT):
            yield Break(path, "has another default; records that leave it out would change their meaning")
        before = self._alternatives(old, self._old_definitions)
        after = self._alternatives(new, self._new_definitions)
        for kind in sorted(before.keys() - after.keys()):
            yield Break(path, f"is narrower: it may no longer be {_a(kind)}, which old records are")
        for kind in sorted(after.keys() - before.keys()):
            yield Break(path, f"is wider: it may now be {_a(kind)}, which old readers do not expect")
        for kind in sorted(before.keys() & after.keys()):
            # A definition may contain itself.
            if (step := (id(before[kind]), id(after[kind]))) not in self._under_way:
                self._under_way.add(step)
                yield from self._compare_alternative(before[kind], after[kind], path=path)
                self._under_way.remove(step)

    def _alternatives(self, schema: Json, definitions: Mapping[str, Json]) -> dict[str, Json]:
        """What a value may be, by type; `anything` where the schema does not say."""
        if "$ref" in schema:
            return self._alternatives(definitions[schema["$ref"].rpartition("/")[2]], definitions)
        if "anyOf" in schema:
            several = [self._alternatives(each, definitions) for each in schema["anyOf"]]
            return {kind: each for alternatives in several for kind, each in alternatives.items()}
        if "type" not in schema:
            words = schema.get("enum", [schema["const"]] if "const" in schema else None)
            return {"anything": schema} if words is None else {"string": schema}
        kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        return dict.fromkeys(kinds, schema)

    def _compare_alternative(self, old: Json, new: Json, *, path: str) -> Iterator[Break]:
        yield from _compare_words(old, new, path=path)
        for keyword in sorted((old.keys() | new.keys()) - _PROSE - _COMPARED_APART):
            if old.get(keyword, _ABSENT) != new.get(keyword, _ABSENT):
                was, is_now = old.get(keyword, "none"), new.get(keyword, "none")
                yield Break(
                    path, f"`{keyword}` was {was} and is {is_now}: narrower for old records, or wider for readers"
                )
        yield from self._compare_fields(old, new, path=path)
        if "items" in old or "items" in new:
            yield from self.compare(old.get("items", {}), new.get("items", {}), path=f"{path}[]")

    def _compare_fields(self, old: Json, new: Json, *, path: str) -> Iterator[Break]:
        before, after = old.get("properties", {}), new.get("properties", {})
        needed, needs = set(old.get("required", ())), set(new.get("required", ()))
        for name in sorted(before.keys() - after.keys()):
            yield Break(f"{path}.{name}", "is gone; old readers look for it, old records carry it")
        for name in sorted(needs - needed):
            yield Break(f"{path}.{name}", "is required now; old records lack it")
        for name in sorted((needed - needs) & after.keys()):
            yield Break(f"{path}.{name}", "may be left out now; old readers rely on it")
        for name in sorted(before.keys() & after.keys()):
            yield from self.compare(before[name], after[name], path=f"{path}.{name}")


def _compare_words(old: Json, new: Json, *, path: str) -> Iterator[Break]:
    before, was_open = _words(old)
    after, is_open = _words(new)
    if (before is None) != (after is None) or (before is not None and was_open != is_open):
        yield Break(path, f"its words were {_freedom(before, was_open)} and are {_freedom(after, is_open)}")
        return
    for word in sorted(set(before or ()) - set(after or ())):
        yield Break(path, f"`{word}` is gone; it stands in old records")
    if not is_open:
        for word in sorted(set(after or ()) - set(before or ())):
            yield Break(path, f"`{word}` is new, and readers were told that there are no others")


def _words(schema: Json) -> tuple[Sequence[str] | None, bool]:
    """The words a value is one of (None: any), and whether there may be others."""
    if OPEN_WORDS in schema:
        return schema[OPEN_WORDS], True
    return ([schema["const"]] if "const" in schema else schema.get("enum")), False


def _freedom(words: Sequence[str] | None, is_open: bool) -> str:  # noqa: FBT001 - what `_words` returned, spread
    return "any" if words is None else "open" if is_open else "a closed set"


def _a(kind: str) -> str:
    return {
        "integer": "an integer",
        "object": "an object",
        "array": "an array",
        "null": "null",
        "anything": "anything",
    }.get(kind, f"a {kind}")


_ABSENT: Final = object()
