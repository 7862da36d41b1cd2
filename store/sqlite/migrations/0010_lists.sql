-- Lists of the tasks in a state that few tasks have. A task that runs at once and ends done is in none of these indexes.
CREATE INDEX failed ON tasks (id) WHERE state = 5;
CREATE INDEX cancelled ON tasks (id) WHERE state = 6;
CREATE INDEX delayed ON tasks (id) WHERE state = 1;

-- Changes of many tasks. about is JSON; seen is when the node that makes the change wrote it last, stopping that it was asked
-- to stop.
CREATE TABLE operations (
  id       TEXT PRIMARY KEY,
  about    TEXT NOT NULL,
  seen     INTEGER NOT NULL,
  stopping INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
