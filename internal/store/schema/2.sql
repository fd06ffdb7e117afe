-- The card range table: each edition that an operator made. The last one is in force; without any, the built-in one.
CREATE TABLE card_tables (
  edition INTEGER PRIMARY KEY,
  at      INTEGER NOT NULL,
  cards   TEXT    NOT NULL
);
