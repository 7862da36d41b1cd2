-- accepts 1
--
-- What is claimed is reserved until its action is entered. attempt counts the claims, which is the fence; unentered counts
-- those that were given back before the action was entered, and that which may be.
--
-- reserved  the attempt whose action was not entered yet; it counts while the state is 3. A node of the release before
--           claims without it, and its attempt is another one then
ALTER TABLE tasks ADD COLUMN reserved integer NOT NULL DEFAULT 0, ADD COLUMN unentered integer NOT NULL DEFAULT 0;

-- A text as it is packed into a history: its length in bytes, seven bits at a time, and the bytes.
CREATE FUNCTION packed_text(text) RETURNS bytea LANGUAGE sql STABLE
  AS $$ SELECT CASE WHEN octet_length($1) < 128 THEN set_byte('\x00'::bytea, 0, octet_length($1))
      ELSE set_byte(set_byte('\x0000'::bytea, 0, octet_length($1) & 127 | 128), 1, octet_length($1) >> 7) END || convert_to($1, 'UTF8') $$;

-- How often a queue was paused or resumed by nodes that know this table.
CREATE TABLE pauses (version bigint NOT NULL);
INSERT INTO pauses VALUES (1);
