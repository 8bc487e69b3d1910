"""The topics described to machines: an AsyncAPI 3 document (https://www.asyncapi.com/docs/reference/specification).

Pure. The document stands on its own: the records' schemas are in it, under the same names as in the files beside it.
"""

import re
from typing import Final

from pabal.contracts.records import RECORDS
from pabal.contracts.schemas import Json, describe_models
from pabal.contracts.topics import TOPICS, Header, Message, Topic
from pabal.topics.spec import topics_for

_ABOUT: Final = """What Pabal writes to Kafka. Everyone may read `pabal.events`, with a consumer group of their own;
the other topics are described so that an engineer can read them, and Pabal alone writes to them.

Values are JSON. Unknown fields are to be passed over, and so are unknown words where a schema says
`x-extensible-enum` instead of `enum`. A change that would need more than that has a new major version in `schema`."""

_BINDING: Final = "0.5.0"


def describe_topics(*, version: str) -> Json:
    """The document of a release."""
    messages = [message for topic in TOPICS for message in topic.messages]
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "Pabal", "version": version, "description": _ABOUT, "license": {"name": "Apache-2.0"}},
        "defaultContentType": "application/json",
        "channels": {topic.name: _channel(topic) for topic in TOPICS},
        "operations": {
            f"write{topic.name.capitalize()}": {
                "action": "send",
                "summary": f"Pabal appends to `{topic.address}`.",
                "channel": {"$ref": f"#/channels/{topic.name}"},
            }
            for topic in TOPICS
        },
        "components": {
            "messages": {message.name: _message(message) for message in messages},
            "schemas": describe_models(RECORDS.values(), ref="#/components/schemas/{name}"),
        },
    }


def _channel(topic: Topic) -> Json:
    parameters = {
        name: {"description": parameter.about} | ({"enum": [*parameter.words]} if parameter.words else {})
        for name, parameter in topic.parameters.items()
    }
    described = {
        "address": topic.address,
        "description": topic.about,
        "messages": {message.name: {"$ref": f"#/components/messages/{message.name}"} for message in topic.messages},
        "bindings": {"kafka": {"topicConfiguration": _configuration(topic), "bindingVersion": _BINDING}},
    }
    return {**described, "parameters": parameters} if parameters else described


def _configuration(topic: Topic) -> Json:
    """How long a topic keeps what it holds: what `pabal topics create` asks for."""
    form = re.compile(re.sub(r"\\\{\w+\\\}", ".+", re.escape(topic.address)))
    spec = next(spec for spec in topics_for(["email"], partitions=1, replication=None) if form.fullmatch(spec.name))
    if spec.compacted:
        return {"cleanup.policy": ["compact"]}
    assert spec.retention_seconds is not None
    return {"cleanup.policy": ["delete"], "retention.ms": spec.retention_seconds * 1000}


def _message(message: Message) -> Json:
    described: Json = {
        "name": message.name,
        "summary": message.about,
        "headers": {
            "type": "object",
            "properties": {header.name: _header(header) for header in message.headers},
            "required": [header.name for header in message.headers if header.is_always_there],
        },
        "bindings": {"kafka": {"key": {"type": "string", "description": message.key}, "bindingVersion": _BINDING}},
    }
    if message.schema is None:
        return {**described, "payload": {"type": "null"}}
    return {**described, "payload": {"$ref": f"#/components/schemas/{RECORDS[message.schema].model.__name__}"}}


def _header(header: Header) -> Json:
    described = {"type": "string", "description": header.about}
    return described if header.form is None else {**described, "pattern": f"^{header.form}$"}
