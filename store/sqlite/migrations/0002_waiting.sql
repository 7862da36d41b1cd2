-- The actions of scheduled tasks by lane, so that those which no node can run are found without
-- reading each task. Only scheduled tasks are in it.
CREATE INDEX scheduled ON tasks (lane, action) WHERE state = 1;
