-- The truth about durable tasks: a row per task, which has its history with it, since a
-- table of its own with its indexes halves the rate.
--
-- state     1 scheduled, 2 queued, 3 running, 4 done, 5 failed, 6 cancelled
-- lane      four times the number of the queue, plus the priority
-- due       when time does something to the task: starts or expires it, ends its lease,
--           deletes it; NULL when it does nothing
-- key       the number of the queue, a colon, and the idempotency key
-- spec      what never changes and what no statement asks for, packed
-- outcome   code, error and result, packed
-- history   the entries, each appended by the statement that makes the change
-- Times are milliseconds since 1970 in UTC; 0 is none.
CREATE TABLE tasks (
  n            INTEGER PRIMARY KEY,
  id           TEXT NOT NULL UNIQUE,
  state        INTEGER NOT NULL,
  lane         INTEGER NOT NULL,
  suspect      INTEGER NOT NULL DEFAULT 0,
  cancelling   INTEGER NOT NULL DEFAULT 0,
  attempt      INTEGER NOT NULL DEFAULT 0,
  failures     INTEGER NOT NULL DEFAULT 0,
  crashes      INTEGER NOT NULL DEFAULT 0,
  max_attempts INTEGER NOT NULL,
  keep         INTEGER NOT NULL,
  run_at       INTEGER NOT NULL,
  expires      INTEGER NOT NULL,
  due          INTEGER,
  action       TEXT NOT NULL,
  key          TEXT,
  node         TEXT,
  spec         BLOB NOT NULL,
  progress     BLOB,
  outcome      BLOB,
  history      BLOB NOT NULL,
  payload      BLOB
) STRICT;

-- What may be claimed next: each lane by action, so that tasks which no node can run do
-- not stand in the way of those behind them.
CREATE INDEX claimable ON tasks (suspect, lane, action, id) WHERE state = 2;

-- What time brings about, and what runs.
CREATE INDEX due ON tasks (state, due) WHERE due IS NOT NULL;

CREATE UNIQUE INDEX keys ON tasks (key) WHERE key IS NOT NULL;

-- Suspects that run, one a node.
CREATE INDEX lone ON tasks (node) WHERE state = 3 AND suspect = 1;

-- A queue's counts, written by the transaction that changes them and never counted.
CREATE TABLE queues (
  number    INTEGER PRIMARY KEY,
  name      TEXT NOT NULL UNIQUE,
  paused    INTEGER NOT NULL,
  scheduled INTEGER NOT NULL,
  queued    INTEGER NOT NULL,
  running   INTEGER NOT NULL,
  failed    INTEGER NOT NULL,
  kept      INTEGER NOT NULL,
  accepted  INTEGER NOT NULL,
  finished  INTEGER NOT NULL
) STRICT;

-- The register of nodes; about is JSON.
CREATE TABLE nodes (
  name  TEXT PRIMARY KEY,
  seen  INTEGER NOT NULL,
  about TEXT NOT NULL
) STRICT, WITHOUT ROWID;
