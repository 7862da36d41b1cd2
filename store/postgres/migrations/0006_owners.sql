-- accepts 1
--
-- Who has enqueued a task, for lists of the tasks of an owner. The spec has it, too. A task without an owner has no entry
-- in the indexes. A node of the release before moves a finished task without its owner; then only such lists leave it out.
ALTER TABLE tasks ADD COLUMN owner text COLLATE "C";
ALTER TABLE finished ADD COLUMN owner text COLLATE "C";
CREATE INDEX owners ON tasks (owner, id) WHERE owner IS NOT NULL;
CREATE INDEX ON finished (owner, id) WHERE owner IS NOT NULL;
