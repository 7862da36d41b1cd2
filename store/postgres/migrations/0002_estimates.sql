-- accepts 1
--
-- What the planner shall believe of queues and actions: that there are many. Where most tasks wait in one
-- queue, it would else look for those of another one by walking through all, in the order of their ids.
ALTER TABLE tasks ALTER COLUMN queue SET (n_distinct = 1000), ALTER COLUMN action SET (n_distinct = 1000);
ANALYZE tasks;
