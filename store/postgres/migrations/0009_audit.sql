-- accepts 1
--
-- Who made which change. at is in milliseconds. detail is JSON, or empty. bulk is the id of a change by filter, whose
-- transactions share one row. Nodes of the release before write no entries.
CREATE TABLE audit (
  seq    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at     bigint NOT NULL,
  who    text COLLATE "C" NOT NULL,
  name   text COLLATE "C" NOT NULL,
  key    text COLLATE "C" NOT NULL,
  verb   text COLLATE "C" NOT NULL,
  what   text COLLATE "C" NOT NULL,
  detail text NOT NULL,
  count  bigint NOT NULL,
  bulk   text COLLATE "C"
);
CREATE INDEX ON audit (at);
CREATE UNIQUE INDEX ON audit (bulk) WHERE bulk IS NOT NULL;
