-- What only PostgreSQL has: the first schema of a database is followed by this.

-- Rows that are written again and again find room for their next version on the same page.
ALTER TABLE payments SET (fillfactor = 60);
ALTER TABLE events SET (fillfactor = 70);

-- Facts lie in the order in which they came all the same; the engines that spread over machines want a key.
DROP INDEX operations_by_payment;
ALTER TABLE operations ADD PRIMARY KEY (payment, n);
DROP INDEX entries_by_payment;
ALTER TABLE entries ADD PRIMARY KEY (payment, n);

-- What each process that writes has committed last: whose COMMIT was sent and not answered looks here.
CREATE TABLE committers (
  id   BYTEA  PRIMARY KEY,
  n    BIGINT NOT NULL,
  at   BIGINT NOT NULL
);
