-- accepts 1
--
-- What all processes with the store share and no client sees: leases are signed with it.
CREATE TABLE secret (bytes bytea NOT NULL);
INSERT INTO secret VALUES (decode(replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''), 'hex'));
