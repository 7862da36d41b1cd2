-- A cancelled task (state 6) no longer holds its key. It gets the key back when it is retried, unless
-- another task has taken it.
DROP INDEX keys;
CREATE UNIQUE INDEX keys ON tasks (key) WHERE key IS NOT NULL AND state <> 6;
