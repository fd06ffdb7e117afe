-- Takes a store of schema 1 over.

ALTER TABLE payments RENAME TO payments_1;
DROP INDEX payments_due;
CREATE TABLE payments (
  seq        INTEGER PRIMARY KEY,
  version    INTEGER NOT NULL,
  state      TEXT    NOT NULL,
  updated_at INTEGER NOT NULL,
  due_at     INTEGER,
  open       TEXT    NOT NULL,
  held       INTEGER NOT NULL,
  captured   INTEGER NOT NULL,
  released   INTEGER NOT NULL,
  refunded   INTEGER NOT NULL,
  fee        INTEGER NOT NULL,
  progress   TEXT    NOT NULL
);
-- A question that waits for a person had no time to be due; now it has one that never comes.
INSERT INTO payments SELECT seq, version, state, updated_at, CASE WHEN open <> '' AND due_at IS NULL THEN 9223372036854775807 ELSE due_at END,
  open, held, captured, released, refunded, fee, progress FROM payments_1 ORDER BY seq;
CREATE INDEX payments_due ON payments (due_at) WHERE due_at IS NOT NULL;
CREATE TABLE terms (
  payment         INTEGER PRIMARY KEY,
  id              BLOB    NOT NULL,
  shop            INTEGER NOT NULL,
  shop_payment_id TEXT    NOT NULL,
  created_at      INTEGER NOT NULL,
  currency        TEXT    NOT NULL,
  amount          INTEGER NOT NULL,
  terms           TEXT    NOT NULL
);
INSERT INTO terms SELECT seq, id, shop, shop_payment_id, created_at, currency, amount, terms FROM payments_1 ORDER BY seq;
CREATE UNIQUE INDEX terms_by_id ON terms (id);
CREATE TABLE names (
  shop            INTEGER NOT NULL,
  shop_payment_id TEXT    NOT NULL,
  payment         INTEGER NOT NULL,
  PRIMARY KEY (shop, shop_payment_id)
) WITHOUT ROWID;
INSERT INTO names SELECT shop, shop_payment_id, seq FROM payments_1 ORDER BY shop, shop_payment_id;
DROP TABLE payments_1;
ALTER TABLE operations RENAME TO operations_1;
CREATE TABLE operations (
  payment INTEGER NOT NULL,
  n       INTEGER NOT NULL,
  record  TEXT    NOT NULL
);
CREATE UNIQUE INDEX operations_by_payment ON operations (payment, n);
INSERT INTO operations SELECT payment, n, record FROM operations_1 ORDER BY payment, n;
DROP TABLE operations_1;
ALTER TABLE entries RENAME TO entries_1;
CREATE TABLE entries (
  payment   INTEGER NOT NULL,
  n         INTEGER NOT NULL,
  operation TEXT    NOT NULL,
  kind      TEXT    NOT NULL,
  at        INTEGER NOT NULL,
  currency  TEXT    NOT NULL,
  lines     TEXT    NOT NULL
);
INSERT INTO entries SELECT payment, n, operation, kind, at, currency, lines FROM entries_1 ORDER BY payment, n;
DROP TABLE entries_1;
CREATE UNIQUE INDEX entries_by_payment ON entries (payment, n);
