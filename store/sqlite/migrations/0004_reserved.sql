-- What is claimed is reserved until its action is entered. attempt counts the claims, which is the fence; unentered counts
-- those that were given back before the action was entered, and that which may be.
--
-- reserved  the attempt whose action was not entered yet; it counts while the state is 3
ALTER TABLE tasks ADD COLUMN reserved INTEGER NOT NULL DEFAULT 0;
ALTER TABLE tasks ADD COLUMN unentered INTEGER NOT NULL DEFAULT 0;

-- How often a queue was paused or resumed.
CREATE TABLE pauses (version INTEGER NOT NULL) STRICT;
INSERT INTO pauses VALUES (1);
