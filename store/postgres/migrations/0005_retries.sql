-- accepts 1
--
-- How long a task that ended failed is kept; NULL, which a release writes that does not know the column, is as long as
-- any other.
ALTER TABLE tasks ADD COLUMN keep_failed bigint;
ALTER TABLE finished ADD COLUMN keep_failed bigint;
