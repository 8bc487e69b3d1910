PRAGMA application_id = 0;
PRAGMA user_version = 0;
BEGIN TRANSACTION;
CREATE TABLE dead_letters (
	topic TEXT NOT NULL, 
	partition INTEGER NOT NULL, 
	"offset" BIGINT NOT NULL, 
	at DOUBLE NOT NULL, 
	error_class TEXT NOT NULL, 
	message TEXT NOT NULL, 
	delivery_id BLOB, 
	CONSTRAINT dead_letters_key PRIMARY KEY (topic, partition, "offset")
);
INSERT INTO "dead_letters" VALUES('pabal.dead.webhook',0,9,1.76727065912345600133e+09,'exhausted','no more',X'00000000000000000000000000000001');
CREATE TABLE deliveries (
	number INTEGER NOT NULL, 
	id BLOB NOT NULL, 
	notification_id BLOB NOT NULL, 
	tenant TEXT NOT NULL, 
	channel TEXT NOT NULL, 
	address TEXT NOT NULL, 
	class TEXT NOT NULL, 
	tags TEXT NOT NULL, 
	attempt INTEGER NOT NULL, 
	standing BIGINT NOT NULL, 
	status TEXT NOT NULL, 
	next_due DOUBLE, 
	accepted_at DOUBLE, 
	send_at DOUBLE, 
	listed_at DOUBLE NOT NULL, 
	ends_by DOUBLE NOT NULL, 
	updated_at DOUBLE NOT NULL, 
	first_dead_lettered_at DOUBLE, 
	succeeded_at DOUBLE, 
	discarded_at DOUBLE, 
	CONSTRAINT deliveries_key PRIMARY KEY (number)
);
INSERT INTO "deliveries" VALUES(1,X'00000000000000000000000000000006',X'0E2A1C345B6D5F708A9B1C2D3E4F5A6B','shop','webhook','https://example.com/','bulk','["d"]',1,256,'scheduled',NULL,NULL,NULL,1.76727065912345600133e+09,1.76787545912345600129e+09,1.76727065912345600133e+09,NULL,NULL,NULL);
INSERT INTO "deliveries" VALUES(2,X'00000000000000000000000000000001',X'0E2A1C345B6D5F708A9B1C2D3E4F5A6B','shop','webhook','https://example.com/2','bulk','["c"]',1,265,'dead_lettered',NULL,1.76727065912345600133e+09,1.76727425912345600129e+09,1.76727065912345600133e+09,1.76727425912345600129e+09,1.76727065912345600133e+09,1.76727065912345600133e+09,NULL,NULL);
INSERT INTO "deliveries" VALUES(3,X'F6C1E2A48D0B5B8E9C530D2B6A1F7E11',X'0E2A1C345B6D5F708A9B1C2D3E4F5A6B','shop','webhook','https://example.com/','bulk','["a","b"]',3,2199023256064,'bounced',NULL,1.76727065912345600133e+09,1.76727065912345600133e+09,1.76727065912345600133e+09,1.76735705912345600126e+09,1.76727425912345600129e+09,NULL,1.76727425912345600129e+09,NULL);
CREATE TABLE receipts (
	id BLOB NOT NULL, 
	at DOUBLE NOT NULL, 
	provider TEXT NOT NULL, 
	provider_id TEXT, 
	delivery_id BLOB, 
	receipt TEXT NOT NULL, 
	CONSTRAINT receipts_key PRIMARY KEY (id, at)
);
INSERT INTO "receipts" VALUES(X'00000000000000000000000000000003',1.76727065912345600133e+09,'smtp','p-1',NULL,'{"id":"00000000-0000-0000-0000-000000000003","provider":"smtp","kind":"bounced","at":"2026-01-01T12:30:59.123456Z","provider_id":"p-1","detail":"full"}');
INSERT INTO "receipts" VALUES(X'00000000000000000000000000000004',1.76727065912345600133e+09,'smtp','p-2',NULL,'{"id":"00000000-0000-0000-0000-000000000004","provider":"smtp","kind":"opened","at":"2026-01-01T12:30:59.123456Z","provider_id":"p-2"}');
CREATE TABLE sent_as (
	provider_id TEXT NOT NULL, 
	provider TEXT NOT NULL, 
	delivery_id BLOB NOT NULL, 
	CONSTRAINT sent_as_key PRIMARY KEY (provider_id, provider, delivery_id)
);
INSERT INTO "sent_as" VALUES('p-1','smtp',X'F6C1E2A48D0B5B8E9C530D2B6A1F7E11');
CREATE TABLE set_aside (
	topic TEXT NOT NULL, 
	partition INTEGER NOT NULL, 
	"offset" BIGINT NOT NULL, 
	at DOUBLE NOT NULL, 
	error TEXT NOT NULL, 
	size BIGINT NOT NULL, 
	start BLOB NOT NULL, 
	CONSTRAINT set_aside_key PRIMARY KEY (topic, partition, "offset")
);
INSERT INTO "set_aside" VALUES('pabal.events',1,17,1.76727065912345600133e+09,'not a delivery event',3,X'007B7D');
CREATE TABLE store_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT store_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "store_version" VALUES('0002');
CREATE TABLE tags (
	delivery INTEGER NOT NULL, 
	tenant TEXT NOT NULL, 
	tag TEXT NOT NULL, 
	accepted_at DOUBLE NOT NULL, 
	CONSTRAINT tags_key PRIMARY KEY (delivery, tenant, tag)
)
 WITHOUT ROWID

;
INSERT INTO "tags" VALUES(3,'shop','a',1.76727065912345600133e+09);
INSERT INTO "tags" VALUES(3,'shop','b',1.76727065912345600133e+09);
INSERT INTO "tags" VALUES(2,'shop','c',1.76727065912345600133e+09);
INSERT INTO "tags" VALUES(1,'shop','d',1.76727065912345600133e+09);
CREATE TABLE timeline (
	delivery INTEGER NOT NULL, 
	id BLOB NOT NULL, 
	at DOUBLE NOT NULL, 
	entry TEXT NOT NULL, 
	CONSTRAINT timeline_key PRIMARY KEY (delivery, id)
)
 WITHOUT ROWID

;
INSERT INTO "timeline" VALUES(1,X'00000000000000000000000000000005',1.76727065912345600133e+09,'{"kind":"scheduled","at":"2026-01-01T12:30:59.123456Z","attempt":1}');
INSERT INTO "timeline" VALUES(3,X'00000000000000000000000000000003',1.76727065912345600133e+09,'{"kind":"bounced","at":"2026-01-01T12:30:59.123456Z","provider":"smtp","provider_id":"p-1","detail":"full"}');
INSERT INTO "timeline" VALUES(3,X'0E2A1C345B6D5F708A9B1C2D3E4F5A6B',1.76727425912345600129e+09,'{"kind":"sent","at":"2026-01-01T13:30:59.123456Z","attempt":3,"provider":"smtp","provider_id":"p-1"}');
INSERT INTO "timeline" VALUES(3,X'F6C1E2A48D0B5B8E9C530D2B6A1F7E11',1.76727065912345600133e+09,'{"kind":"deferred","at":"2026-01-01T12:30:59.123456Z","attempt":1,"latency_seconds":0.25,"detail":"busy","response":"450","due":"2026-01-01T13:30:59.123456Z"}');
CREATE INDEX dead_letters_by_time ON dead_letters (at);
CREATE INDEX deliveries_by_address ON deliveries (tenant, address, listed_at);
CREATE INDEX deliveries_by_channel ON deliveries (tenant, channel, listed_at);
CREATE INDEX deliveries_by_class ON deliveries (tenant, class, listed_at);
CREATE INDEX deliveries_by_end ON deliveries (ends_by);
CREATE UNIQUE INDEX deliveries_by_id ON deliveries (id);
CREATE INDEX deliveries_by_notification ON deliveries (notification_id);
CREATE INDEX deliveries_by_status ON deliveries (tenant, status, listed_at);
CREATE INDEX deliveries_by_time ON deliveries (tenant, listed_at);
CREATE INDEX deliveries_dead_lettered ON deliveries (first_dead_lettered_at) WHERE first_dead_lettered_at IS NOT NULL;
CREATE INDEX deliveries_open_by_end ON deliveries (ends_by) WHERE status IN ('accepted', 'scheduled', 'deferred');
CREATE INDEX receipts_by_delivery ON receipts (delivery_id);
CREATE INDEX receipts_by_name ON receipts (provider_id, provider);
CREATE INDEX receipts_by_time ON receipts (at);
CREATE INDEX sent_as_by_delivery ON sent_as (delivery_id);
CREATE INDEX tags_by_time ON tags (tenant, tag, accepted_at, delivery);
CREATE INDEX set_aside_by_time ON set_aside (at);
COMMIT;
