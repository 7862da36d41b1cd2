/* A worker on a pipe: cc -o worker worker.c -ljansson && posta up --worker ./worker
   It needs libjansson-dev. */
#include <jansson.h>
#include <stdio.h>
#include <string.h>

static void say(json_t *line)
{
	json_dumpf(line, stdout, JSON_COMPACT);
	putchar('\n');
	fflush(stdout);
	json_decref(line);
}

int main(void)
{
	char *line = NULL;
	size_t size = 0;

	say(json_pack("{s:s, s:s, s:[s]}", "id", "w", "op", "work", "actions", "greet"));
	while (getline(&line, &size, stdin) > 0) {
		json_t *push = json_loads(line, 0, NULL);
		const char *status = json_string_value(json_object_get(push, "status"));

		if (status && strcmp(status, "running") == 0) {
			json_t *lease = json_object_get(push, "lease");
			const char *name = json_string_value(json_object_get(json_object_get(push, "payload"), "name"));

			if (name)
				say(json_pack("{s:s, s:O, s:s+}", "op", "done", "lease", lease, "data", "hello ", name));
			else
				say(json_pack("{s:s, s:O, s:s, s:b}", "op", "fail", "lease", lease, "error", "there is no name", "retry", 0));
		}
		json_decref(push);
	}
	return 0;
}
