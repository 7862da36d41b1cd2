-- accepts 1
--
-- The truth about durable tasks: a row per task, which has its history with it. What is not
-- finished is in tasks; what is, in finished, until the time for which it is kept is over.
--
-- state     1 scheduled, 2 queued, 3 running, 4 done, 5 failed, 6 cancelled
-- due       of what waits: when time starts or expires it; NULL when it does nothing
-- lease     of what runs: when it is taken from its node
-- changed   when it came into its state
-- spec      what never changes and what no statement asks for, packed
-- outcome   code, error and result, packed
-- history   the entries, each appended by the statement that makes the change
-- Times are milliseconds since 1970 in UTC; 0 is none.
CREATE TABLE tasks (
  id           text COLLATE "C" PRIMARY KEY,
  state        smallint NOT NULL,
  suspect      boolean NOT NULL,
  cancelling   boolean NOT NULL,
  priority     smallint NOT NULL,
  queue        integer NOT NULL,
  attempt      integer NOT NULL,
  failures     integer NOT NULL,
  crashes      integer NOT NULL,
  max_attempts integer NOT NULL,
  keep         bigint NOT NULL,
  created      bigint NOT NULL,
  changed      bigint NOT NULL,
  run_at       bigint NOT NULL,
  expires      bigint NOT NULL,
  due          bigint,
  lease        bigint,
  action       text COLLATE "C" NOT NULL,
  key          text COLLATE "C",
  node         text COLLATE "C",
  spec         bytea NOT NULL,
  progress     bytea,
  outcome      bytea,
  history      bytea NOT NULL,
  payload      bytea
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
  autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 50000,
  autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 50000,
  autovacuum_vacuum_cost_delay = 0);

-- What may be claimed next: by action, so that tasks which no node can run do not stand in
-- the way of those behind them. No index has the lease, so that renewing one changes no index.
CREATE INDEX claimable ON tasks (queue, priority, action, id) WHERE state = 2 AND NOT suspect;
CREATE INDEX suspects ON tasks (queue, priority, action, id) WHERE state = 2 AND suspect;
CREATE INDEX waiting ON tasks (due) WHERE due IS NOT NULL;
CREATE INDEX running ON tasks (node) WHERE state = 3;

-- Finished tasks, in a partition for each bucket of times at which they go. A partition is
-- dropped when all that is in it has gone. gone is when the task goes.
CREATE TABLE finished (LIKE tasks, bucket bigint NOT NULL, gone bigint NOT NULL) PARTITION BY LIST (bucket);
CREATE INDEX ON finished (id);
CREATE INDEX ON finished (gone, id);

-- How far finished tasks have gone: those up to here are there no more, whether their
-- partition has been dropped or not.
CREATE TABLE sweep (until bigint NOT NULL, last_id text COLLATE "C" NOT NULL);
INSERT INTO sweep VALUES (0, '');

-- Idempotency keys of tasks that are kept.
CREATE TABLE keys (
  queue integer NOT NULL,
  key   text COLLATE "C" NOT NULL,
  id    text COLLATE "C" NOT NULL,
  PRIMARY KEY (queue, key)
) WITH (autovacuum_vacuum_scale_factor = 0.02);

CREATE TABLE queues (
  number integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  name   text COLLATE "C" NOT NULL UNIQUE,
  paused boolean NOT NULL DEFAULT false
);

-- A queue's counts are the sums of its rows here. Each change is counted by the statement that makes
-- it, in a row of the caller's choice, so that callers do not wait for each other.
CREATE TABLE counts (
  queue     integer NOT NULL,
  shard     smallint NOT NULL,
  scheduled bigint NOT NULL,
  queued    bigint NOT NULL,
  running   bigint NOT NULL,
  failed    bigint NOT NULL,
  kept      bigint NOT NULL,
  accepted  bigint NOT NULL,
  finished  bigint NOT NULL,
  PRIMARY KEY (queue, shard)
) WITH (fillfactor = 10, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

-- The register of nodes; about is JSON.
CREATE TABLE nodes (
  name  text COLLATE "C" PRIMARY KEY,
  seen  bigint NOT NULL,
  about text NOT NULL
) WITH (fillfactor = 50);

-- The store's clock.
CREATE FUNCTION clock_ms() RETURNS bigint LANGUAGE sql VOLATILE
  AS $$ SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint $$;

-- The bucket of a task that goes at a time: those that are kept longer have wider ones, so that
-- there are some dozens of partitions and no more. The number's last digit is the class.
CREATE FUNCTION bucket_of(gone bigint, keep bigint) RETURNS bigint LANGUAGE sql IMMUTABLE
  AS $$ SELECT CASE
    WHEN keep <= 3600000    THEN gone / 600000 * 10
    WHEN keep <= 86400000   THEN gone / 7200000 * 10 + 1
    WHEN keep <= 604800000  THEN gone / 43200000 * 10 + 2
    WHEN keep <= 7776000000 THEN gone / 604800000 * 10 + 3
    ELSE gone / 7776000000 * 10 + 4 END $$;

-- When all of a bucket has gone.
CREATE FUNCTION bucket_end(bucket bigint) RETURNS bigint LANGUAGE sql IMMUTABLE
  AS $$ SELECT (bucket / 10 + 1) * (ARRAY[600000, 7200000, 43200000, 604800000, 7776000000])[bucket % 10 + 1] $$;
