PRAGMA application_id = 0;
PRAGMA user_version = 3;
BEGIN TRANSACTION;
CREATE TABLE deliveries (
      number INTEGER PRIMARY KEY,
      id BLOB NOT NULL UNIQUE,
      attempt INTEGER NOT NULL,
      source_attempt INTEGER NOT NULL,
      source_parks INTEGER NOT NULL,
      state TEXT NOT NULL,
      owner INTEGER NOT NULL,
      token INTEGER NOT NULL,
      lease_until REAL NOT NULL,
      provider TEXT NOT NULL,
      verdict TEXT,
      outcome TEXT,
      settled INTEGER NOT NULL,
      accepted INTEGER NOT NULL,
      takeovers INTEGER NOT NULL,
      prune_after REAL NOT NULL,
      cancelled INTEGER NOT NULL
    );
INSERT INTO "deliveries" VALUES(1,X'00000000000000000000000000000001',1,1,0,'decided',1,1,1030.0,'smtp','{"kind":"done"}','{"kind":"accepted","provider_id":"p-1","response":"250 ok"}',0,1,0,1.76727425912345600129e+09,0);
INSERT INTO "deliveries" VALUES(2,X'00000000000000000000000000000002',1,1,0,'decided',1,2,1030.0,'smtp','{"kind":"expired"}','{"kind":"deferred","reason":"busy","retry_after_seconds":2.5,"response":"450 busy","address_only":true}',0,0,0,1.76727425912345600129e+09,0);
INSERT INTO "deliveries" VALUES(3,X'00000000000000000000000000000003',1,1,0,'decided',1,3,1030.0,'smtp','{"kind":"expired"}','{"kind":"rejected","reason":"no such mailbox","response":"550 no"}',0,0,0,1.76727425912345600129e+09,0);
INSERT INTO "deliveries" VALUES(4,X'00000000000000000000000000000004',1,1,0,'decided',1,4,1030.0,'smtp','{"kind":"expired"}','{"kind":"misconfigured","reason":"wrong password","response":"535 no","tenant_only":true}',0,0,0,1.76727425912345600129e+09,0);
INSERT INTO "deliveries" VALUES(5,X'00000000000000000000000000000005',1,1,0,'decided',1,5,1030.0,'smtp','{"kind":"expired"}','{"kind":"unknown","reason":"no answer"}',0,0,0,1.76727425912345600129e+09,0);
INSERT INTO "deliveries" VALUES(6,X'00000000000000000000000000000006',1,1,0,'decided',1,6,1030.0,'smtp','{"kind":"done"}','{"kind":"deferred","reason":"busy","retry_after_seconds":2.5,"response":"450 busy","address_only":true}',0,0,0,1.76727425912345600129e+09,0);
INSERT INTO "deliveries" VALUES(7,X'00000000000000000000000000000007',1,1,0,'decided',1,7,1030.0,'smtp','{"kind":"retryat","due":"2026-01-01T13:30:59.123456Z","rung":2}','{"kind":"deferred","reason":"busy","retry_after_seconds":2.5,"response":"450 busy","address_only":true}',0,0,0,1.76727425912345600129e+09,0);
INSERT INTO "deliveries" VALUES(8,X'00000000000000000000000000000008',1,1,0,'decided',1,8,1030.0,'smtp','{"kind":"park","due":"2026-01-01T13:30:59.123456Z","reason":"refused","callee":"webhook example.com"}','{"kind":"deferred","reason":"busy","retry_after_seconds":2.5,"response":"450 busy","address_only":true}',0,0,0,1.76727425912345600129e+09,0);
INSERT INTO "deliveries" VALUES(9,X'00000000000000000000000000000009',1,1,0,'decided',1,9,1030.0,'smtp','{"kind":"deadletter","error_class":"exhausted","message":"no more"}','{"kind":"deferred","reason":"busy","retry_after_seconds":2.5,"response":"450 busy","address_only":true}',0,0,0,1.76727425912345600129e+09,0);
INSERT INTO "deliveries" VALUES(10,X'0000000000000000000000000000000A',1,1,0,'decided',1,10,1030.0,'smtp','{"kind":"expired"}','{"kind":"deferred","reason":"busy","retry_after_seconds":2.5,"response":"450 busy","address_only":true}',0,0,0,1.76727425912345600129e+09,0);
INSERT INTO "deliveries" VALUES(11,X'0000000000000000000000000000000B',1,1,0,'decided',1,11,1030.0,'smtp','{"kind":"suppressed"}','{"kind":"deferred","reason":"busy","retry_after_seconds":2.5,"response":"450 busy","address_only":true}',0,0,0,1.76727425912345600129e+09,0);
INSERT INTO "deliveries" VALUES(12,X'0000000000000000000000000000000C',1,1,0,'decided',1,12,1030.0,'smtp','{"kind":"cancelled"}','{"kind":"deferred","reason":"busy","retry_after_seconds":2.5,"response":"450 busy","address_only":true}',0,0,0,1.76727425912345600129e+09,0);
INSERT INTO "deliveries" VALUES(13,X'0000000000000000000000000000000D',1,1,0,'decided',1,13,1030.0,'smtp','{"kind":"refused","reason":"no such mailbox"}','{"kind":"deferred","reason":"busy","retry_after_seconds":2.5,"response":"450 busy","address_only":true}',0,0,0,1.76727425912345600129e+09,0);
INSERT INTO "deliveries" VALUES(14,X'0000000000000000000000000000000E',1,1,0,'claimed',1,14,1030.0,'smtp',NULL,NULL,0,0,0,1.76727425912345600129e+09,0);
INSERT INTO "deliveries" VALUES(15,X'0000000000000000000000000000000F',1,1,0,'free',1,15,1030.0,'smtp',NULL,NULL,0,0,0,1.76727425912345600129e+09,0);
INSERT INTO "deliveries" VALUES(16,X'00000000000000000000000000000010',1,1,0,'decided',1,16,1030.0,'smtp','{"kind":"done"}','{"kind":"accepted","provider_id":"p-1","response":"250 ok"}',1,1,0,1.76727425912345600129e+09,0);
INSERT INTO "deliveries" VALUES(17,X'00000000000000000000000000000011',0,0,0,'free',0,0,0.0,'',NULL,NULL,0,0,0,1.76727425912345600129e+09,1);
CREATE TABLE ledger (id BLOB NOT NULL);
INSERT INTO "ledger" VALUES(X'52BECDA61BBF9753758825724AD395DC');
CREATE TABLE owners (
      owner INTEGER PRIMARY KEY AUTOINCREMENT,
      worker TEXT NOT NULL,
      pid INTEGER NOT NULL,
      boot_id TEXT NOT NULL,
      opened_at TEXT NOT NULL,
      ended TEXT
    );
INSERT INTO "owners" VALUES(1,'a',16586,'boot-1','2026-01-01T12:30:59.123456+00:00','closed');
CREATE TABLE suppressions (recipient BLOB PRIMARY KEY) WITHOUT ROWID;
INSERT INTO "suppressions" VALUES(X'73686F702F656D61696C2F61406578616D706C652E636F6D');
INSERT INTO "suppressions" VALUES(X'73686F702F656D61696C2F62406578616D706C652E636F6D');
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('owners',1);
COMMIT;
