-- owner  who has enqueued the task, for lists of the tasks of an owner. The spec has it, too. A task without an owner has no
--        entry in the index
ALTER TABLE tasks ADD COLUMN owner TEXT;
CREATE INDEX owners ON tasks (owner, id) WHERE owner IS NOT NULL;
