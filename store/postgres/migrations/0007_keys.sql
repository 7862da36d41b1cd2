-- accepts 1
--
-- The keys of clients. about is JSON; used and revoked change, and are 0 for never.
CREATE TABLE access_keys (
  id      text COLLATE "C" PRIMARY KEY,
  about   text NOT NULL,
  used    bigint NOT NULL,
  revoked bigint NOT NULL
);
