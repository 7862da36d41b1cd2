-- keep_failed  how long a task that ended failed is kept; NULL is as long as any other
-- timed        1: run_at is a time that somebody asked for. 0: it follows from a delay or a backoff, so it moves
--              when the clock is set
ALTER TABLE tasks ADD COLUMN keep_failed INTEGER;
ALTER TABLE tasks ADD COLUMN timed INTEGER NOT NULL DEFAULT 1;
