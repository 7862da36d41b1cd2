-- The keys of clients. about is JSON; used and revoked change, and are 0 for never.
CREATE TABLE access_keys (
  id      TEXT PRIMARY KEY,
  about   TEXT NOT NULL,
  used    INTEGER NOT NULL,
  revoked INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
