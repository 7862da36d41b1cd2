-- Who made which change. at is in milliseconds. detail is JSON, or empty. bulk is the id of a change by filter, whose
-- transactions share one row.
CREATE TABLE audit (
  seq    INTEGER PRIMARY KEY AUTOINCREMENT,
  at     INTEGER NOT NULL,
  who    TEXT NOT NULL,
  name   TEXT NOT NULL,
  key    TEXT NOT NULL,
  verb   TEXT NOT NULL,
  what   TEXT NOT NULL,
  detail TEXT NOT NULL,
  count  INTEGER NOT NULL,
  bulk   TEXT
) STRICT;
CREATE INDEX audit_at ON audit (at);
CREATE UNIQUE INDEX audit_bulk ON audit (bulk) WHERE bulk IS NOT NULL;
