-- What all processes with the store share and no client sees: leases are signed with it.
CREATE TABLE secret (bytes BLOB NOT NULL) STRICT;
INSERT INTO secret VALUES (randomblob(32));
