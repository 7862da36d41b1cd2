-- accepts 1
--
-- Lists of the tasks in a state that few tasks have. A task that runs at once and ends done is in none of these indexes.
CREATE INDEX delayed ON tasks (id) WHERE state = 1;
CREATE INDEX ON finished (id) WHERE state = 5;
CREATE INDEX ON finished (id) WHERE state = 6;

-- Changes of many tasks. about is JSON; seen is when the node that makes the change wrote it last, stopping that it was asked
-- to stop.
CREATE TABLE operations (
  id       text COLLATE "C" PRIMARY KEY,
  about    text NOT NULL,
  seen     bigint NOT NULL,
  stopping boolean NOT NULL DEFAULT false
);
