-- What only PostgreSQL has: the first schema of a database is followed by this.

-- Rows that are written again and again find room for their next version on the same page.
ALTER TABLE payments SET (fillfactor = 60);
ALTER TABLE events SET (fillfactor = 70);

-- What each process that writes has committed last: whose COMMIT was sent and not answered looks here.
CREATE TABLE committers (
  id   BYTEA  PRIMARY KEY,
  n    BIGINT NOT NULL,
  at   BIGINT NOT NULL
);
