"""A Kafka that wants encryption and a password: settings reach every client."""

import subprocess
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path

import pytest
from confluent_kafka.admin import (  # type: ignore[attr-defined] # it re-exports without saying so
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)
from servers.kafka import KafkaCluster, missing

from pabal.broker.kafka.broker import KafkaBroker
from pabal.broker.port import TopicPartition, TopicSpec
from pabal.errors import LogError, LogUnavailable
from tests.conftest import skip_without_kafka
from tests.kafka.lab import Owner, make_topic, record, unique

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(120)]

LOGIN = 'org.apache.kafka.common.security.plain.PlainLoginModule required username="kafka" password="k" user_kafka="k"'


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key store with a certificate for 127.0.0.1, and the certificate beside it."""
    if reason := missing():
        skip_without_kafka(reason)
    store = tmp_path_factory.mktemp("tls") / "broker.p12"
    common = ["-alias", "broker", "-keystore", str(store), "-storetype", "PKCS12", "-storepass", "changeit"]
    name = ["-keyalg", "EC", "-dname", "CN=broker", "-ext", "san=ip:127.0.0.1", "-validity", "1"]
    subprocess.run(["keytool", "-genkeypair", *common, *name], check=True, capture_output=True)
    pem = str(store.with_suffix(".pem"))
    subprocess.run(["keytool", "-exportcert", "-rfc", "-file", pem, *common], check=True, capture_output=True)
    return store


@pytest.fixture(scope="module")
def bootstrap(certificate: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    settings = {
        "listener.security.protocol.map": "PLAINTEXT:SASL_SSL,CONTROLLER:PLAINTEXT",
        "sasl.enabled.mechanisms": "PLAIN",
        "sasl.mechanism.inter.broker.protocol": "PLAIN",
        "listener.name.plaintext.plain.sasl.jaas.config": f'{LOGIN} user_pabal="correct";',
    }
    for store in ("keystore", "truststore"):
        settings[f"ssl.{store}.location"] = str(certificate)
        settings[f"ssl.{store}.password"] = "changeit"
    with KafkaCluster.start(tmp_path_factory.mktemp("secure"), settings=settings) as cluster:
        yield cluster.bootstrap


def options(certificate: Path, *, password: str) -> Mapping[str, str]:
    return {
        "security.protocol": "SASL_SSL",
        "ssl.ca.location": str(certificate.with_suffix(".pem")),
        "sasl.mechanism": "PLAIN",
        "sasl.username": "pabal",
        "sasl.password": password,
    }


async def test_with_the_right_settings_every_client_works(bootstrap: str, certificate: Path) -> None:
    broker = await KafkaBroker.open(bootstrap, options=options(certificate, password="correct"))
    topic = await make_topic(broker)
    await broker.producer().append([record(topic, "secret")])

    consumed = await broker.consumer(unique("group"), [topic], Owner()).poll(limit=1, timeout_seconds=20)
    read = [each async for batch in broker.reader().read(TopicPartition(topic, 0)) for each in batch]

    assert list(consumed) == read
    assert [each.value for each in read] == [b"secret"]
    await broker.close()


async def test_a_wrong_password_is_told_as_such(bootstrap: str, certificate: Path) -> None:
    with pytest.raises(LogUnavailable, match="Authentication failed"):
        await KafkaBroker.open(bootstrap, options=options(certificate, password="wrong"), deadline_seconds=3)


async def test_a_certificate_that_is_not_trusted_is_told_as_such(bootstrap: str, certificate: Path) -> None:
    trusting_others = {**options(certificate, password="correct"), "ssl.ca.location": "probe"}

    with pytest.raises(LogUnavailable, match="certificate verify failed"):
        await KafkaBroker.open(bootstrap, options=trusting_others, deadline_seconds=3)


async def test_speaking_plainly_to_an_encrypted_port_is_unavailable(bootstrap: str) -> None:
    with pytest.raises(LogUnavailable):
        await KafkaBroker.open(bootstrap, deadline_seconds=2)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Kafka that asks for rights, and denies everybody to describe one group and to read one topic's settings."""
    if reason := missing():
        skip_without_kafka(reason)
    settings = {
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "allow.everyone.if.no.acl.found": "true",
    }
    with KafkaCluster.start(tmp_path_factory.mktemp("guarded"), settings=settings) as cluster:
        client = AdminClient({"bootstrap.servers": cluster.bootstrap})
        group, topic = (ResourceType.GROUP, "forbidden"), (ResourceType.TOPIC, "forbidden")
        # What has one entry is closed to everybody whom no entry lets in; an entry that denies comes first.
        entries = [
            (*group, AclOperation.DESCRIBE, AclPermissionType.DENY),
            (*topic, AclOperation.DESCRIBE_CONFIGS, AclPermissionType.DENY),
            (*topic, AclOperation.ALL, AclPermissionType.ALLOW),
        ]
        bindings = [
            AclBinding(kind, name, ResourcePatternType.LITERAL, "User:*", "*", operation, permission)
            for kind, name, operation, permission in entries
        ]
        for future in client.create_acls(bindings).values():
            future.result(30)
        yield cluster.bootstrap


@pytest.mark.parametrize("question", ["committed", "members", "topics"])
async def test_a_right_that_is_missing_is_named(guarded: str, question: str) -> None:
    broker = await KafkaBroker.open(guarded)
    admin = broker.admin()
    await admin.create_topic(TopicSpec(name="forbidden", partitions=1))
    questions: Mapping[str, tuple[Callable[[], Awaitable[object]], str]] = {
        "committed": (lambda: admin.committed("forbidden"), "Describe on group 'forbidden'"),
        "members": (lambda: admin.members(["forbidden"]), "Describe on group 'forbidden'"),
        "topics": (admin.topics, "DescribeConfigs on topic 'forbidden'"),
    }
    ask, right = questions[question]

    with pytest.raises(LogError, match=f"this user lacks the right {right} \\("):
        await ask()
    await broker.close()
