-- Lists of the tasks in a state that few tasks have. A task that runs at once and ends done is in none of these indexes.
CREATE INDEX failed ON tasks (id) WHERE state = 5;
CREATE INDEX cancelled ON tasks (id) WHERE state = 6;
CREATE INDEX delayed ON tasks (id) WHERE state = 1;
