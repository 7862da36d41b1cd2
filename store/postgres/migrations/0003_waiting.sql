-- accepts 1
--
-- The actions of scheduled tasks by queue, so that those which no node can run are found without reading
-- each task. Only scheduled tasks are in it.
CREATE INDEX scheduled ON tasks (queue, action) WHERE state = 1;
