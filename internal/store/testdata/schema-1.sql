-- Times are microseconds since 1970 (UTC), sums are minor units, ids are made by the gateway.
-- seq is the order in which payments came: rows that live together lie together.

CREATE TABLE shops (
  id          INTEGER PRIMARY KEY,
  name        TEXT    NOT NULL,
  secret_hash BLOB    NOT NULL,
  unique_key  BLOB    NOT NULL,
  created_at  INTEGER NOT NULL,
  settings    TEXT    NOT NULL
);

CREATE TABLE payments (
  seq             INTEGER PRIMARY KEY,
  id              BLOB    NOT NULL UNIQUE,
  shop            INTEGER NOT NULL,
  shop_payment_id TEXT    NOT NULL,
  version         INTEGER NOT NULL,
  state           TEXT    NOT NULL,
  created_at      INTEGER NOT NULL,
  updated_at      INTEGER NOT NULL,
  due_at          INTEGER,             -- when the payment wants attention, or earlier; null: never
  open            TEXT    NOT NULL,    -- the kind of the open question, or ''
  currency        TEXT    NOT NULL,
  amount          INTEGER NOT NULL,
  held            INTEGER NOT NULL,
  captured        INTEGER NOT NULL,
  released        INTEGER NOT NULL,
  refunded        INTEGER NOT NULL,
  fee             INTEGER NOT NULL,
  terms           TEXT    NOT NULL,
  progress        TEXT    NOT NULL
);
CREATE UNIQUE INDEX payments_by_shop ON payments (shop, shop_payment_id);
CREATE INDEX payments_due ON payments (due_at) WHERE due_at IS NOT NULL;

-- Answered questions; the open one is in payments.progress.
CREATE TABLE operations (
  payment     INTEGER NOT NULL,
  n           INTEGER NOT NULL,
  ref         TEXT    NOT NULL,
  kind        TEXT    NOT NULL,
  amount      INTEGER NOT NULL,
  outcome     TEXT    NOT NULL,
  answered_at INTEGER NOT NULL,
  record      TEXT    NOT NULL,
  PRIMARY KEY (payment, n)
) WITHOUT ROWID;

-- The ledger: lines is "account sum;account sum", adding up to zero.
CREATE TABLE entries (
  payment   INTEGER NOT NULL,
  n         INTEGER NOT NULL,
  operation TEXT    NOT NULL,
  kind      TEXT    NOT NULL,
  at        INTEGER NOT NULL,
  currency  TEXT    NOT NULL,
  lines     TEXT    NOT NULL,
  PRIMARY KEY (payment, n)
) WITHOUT ROWID;

-- What merchants shall be told. next_at is null when nothing is to be sent any more; outcome says why.
CREATE TABLE events (
  payment     INTEGER NOT NULL,
  n           INTEGER NOT NULL,
  shop        INTEGER NOT NULL,
  status      TEXT    NOT NULL,
  at          INTEGER NOT NULL,
  captured    INTEGER NOT NULL,
  fee         INTEGER NOT NULL,
  refunded    INTEGER NOT NULL,
  endpoint    TEXT    NOT NULL,
  next_at     INTEGER,
  lease_until INTEGER NOT NULL,
  attempts    INTEGER NOT NULL,
  accepted    INTEGER NOT NULL,
  outcome     TEXT    NOT NULL,
  last_at     INTEGER NOT NULL,        -- the last attempt whose result is known
  took        INTEGER NOT NULL,
  http_status INTEGER NOT NULL,
  note        TEXT    NOT NULL,
  PRIMARY KEY (payment, n)
) WITHOUT ROWID;
CREATE INDEX events_due ON events (next_at) WHERE next_at IS NOT NULL;

-- Each attempt to tell that was not the last one of its event.
CREATE TABLE deliveries (
  payment INTEGER NOT NULL,
  event   INTEGER NOT NULL,
  attempt INTEGER NOT NULL,
  at      INTEGER NOT NULL,
  took    INTEGER NOT NULL,
  status  INTEGER NOT NULL,
  note    TEXT    NOT NULL,
  PRIMARY KEY (payment, event, attempt)
) WITHOUT ROWID;

-- Holds that carry no reference of ours, each owned by one payment.
CREATE TABLE claims (
  processor TEXT    NOT NULL,
  claim     TEXT    NOT NULL,
  payment   INTEGER NOT NULL,
  PRIMARY KEY (processor, claim)
) WITHOUT ROWID;
