package posta_test

import (
	"maps"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// arrows says which rooms each room imports, tests aside. It is exact: an import
// that is not in the table fails the test, and so does a row that has become
// untrue. A new arrow is a design change; docs/adr/0001 says what to weigh.
func arrows() map[string][]string {
	return map[string][]string{
		".":        {},
		"task":     {},
		"pool":     {},
		"actions":  {},
		"auth":     {},
		"balancer": {"balancer/relay"},
		"wire":     {"task", "wire/scan"},
		"store":    {"task"},
		"broker":   {"task"},
		"blob":     {"internal/fail"},
		"executor": {"actions", "pool", "task"},
		"durable": {
			"actions", "blob", "broker", "durable/ahead", "durable/audience", "durable/bodies", "durable/group",
			"durable/hands", "durable/orphan", "durable/post", "durable/rates", "executor", "internal/fail",
			"store", "task",
		},
		"lineapi": {
			"auth", "durable", "executor", "internal/fail", "lineapi/answers", "task", "wire", "wire/asked",
		},
		"httpapi": {"auth", "durable", "executor", "task", "wire", "wire/asked", "wire/stream"},
		"node":    {"actions", "auth", "durable", "executor", "httpapi", "lineapi", "task"},
		"client":  {"client/call", "client/link", "task", "wire"},
		"cmd/posta": {
			"actions", "auth", "balancer", "blob", "blob/s3", "broker", "broker/rabbitmq", "chaos/deeds",
			"client", "cmd/posta/await", "cmd/posta/checkup", "cmd/posta/checkup/backing", "cmd/posta/checkup/door", "cmd/posta/exit", "cmd/posta/load", "cmd/posta/option", "cmd/posta/secure", "cmd/posta/show",
			"cmd/posta/stream", "cmd/posta/target", "cmd/posta/tasklines", "cmd/posta/terminal", "durable",
			"node", "store", "store/postgres", "store/sqlite", "task", "wire",
		},

		"cmd/posta/await":   {"cmd/posta/exit"},
		"cmd/posta/load":    {},
		"cmd/posta/secure":  {"auth", "cmd/posta/exit"},
		"balancer/relay":    {},
		"durable/audience":  {"task"},
		"durable/group":     {"task"},
		"durable/ahead":     {"durable/hands"},
		"durable/hands":     {"durable/audience", "store", "task"},
		"durable/post":      {"broker", "task"},
		"durable/rates":     {"store", "task"},
		"durable/bodies":    {"blob", "internal/fail", "task"},
		"durable/orphan":    {"blob", "internal/fail", "task"},
		"wire/scan":         {"task"},
		"wire/asked":        {"task", "wire"},
		"wire/stream":       {"task"},
		"lineapi/answers":   {"durable", "task", "wire", "wire/asked"},
		"store/sqlite/file": {"internal/fail", "task"},
		"store/pack":        {"task"},
		"store/sqlite/lane": {"task"},
		"store/sqlite": {
			"internal/fail", "store", "store/pack", "store/sqlite/file", "store/sqlite/lane", "store/sqlite/statement",
			"task",
		},
		"store/storetest":           {"store", "task"},
		"broker/brokertest":         {"broker", "task"},
		"broker/rabbitmq":           {"broker", "broker/rabbitmq/amqp", "broker/rabbitmq/bulletin", "task"},
		"broker/rabbitmq/bulletin":  {"broker", "task"},
		"broker/rabbitmq/amqp":      {},
		"blob/blobtest":             {"blob"},
		"blob/s3":                   {"blob"},
		"client/call":               {"client/link", "task", "wire"},
		"client/link":               {"task", "wire"},
		"internal/pgproxy":          {},
		"internal/testenv":          {"internal/testenv/freeport"},
		"internal/testenv/freeport": {},
		"cmd/posta/checkup":         {"client"},
		"cmd/posta/checkup/door":    {"auth", "client", "cmd/posta/checkup"},
		"cmd/posta/checkup/backing": {
			"blob/s3", "broker/rabbitmq", "cmd/posta/checkup", "cmd/posta/exit", "cmd/posta/option", "store/postgres", "store/sqlite",
		},
		"internal/faultproxy":      {},
		"cmd/posta/exit":           {"task"},
		"cmd/posta/option":         {"cmd/posta/exit", "cmd/posta/terminal", "task", "wire"},
		"cmd/posta/show":           {"client", "cmd/posta/terminal", "task"},
		"cmd/posta/stream":         {"client", "cmd/posta/exit", "cmd/posta/target", "cmd/posta/terminal", "task", "wire"},
		"cmd/posta/target":         {"client", "cmd/posta/exit", "cmd/posta/option", "cmd/posta/secure", "cmd/posta/terminal", "task", "wire"},
		"cmd/posta/terminal":       {},
		"cmd/posta/tasklines":      {"cmd/posta/terminal", "executor"},
		"store/sqlite/statement":   {"internal/fail", "store/pack", "task"},
		"internal/fail":            {},
		"store/postgres":           {"store", "store/pack", "store/postgres/mutant", "store/postgres/server", "store/postgres/statement", "task"},
		"store/postgres/mutant":    {"internal/fail", "task"},
		"store/postgres/statement": {"internal/fail", "task"},
		"store/postgres/server":    {"internal/fail", "task"},

		// They measure and show the house, and are no part of it.
		"chaos": {
			"chaos/check", "chaos/history", "chaos/load", "chaos/nemesis", "chaos/system", "internal/fail",
		},
		"chaos/check":      {"chaos/history"},
		"chaos/deeds":      {"actions", "chaos/history"},
		"chaos/history":    {},
		"chaos/load":       {"chaos/history"},
		"chaos/nemesis":    {"chaos/history"},
		"chaos/run":        {"chaos"},
		"chaos/system":     {"chaos/history"},
		"bench":            {"bench/contest", "bench/lab", "bench/load", "bench/report"},
		"bench/lab":        {"bench/load", "internal/testenv"},
		"bench/load":       {},
		"examples/client":  {"client"},
		"examples/embed":   {"actions", "node"},
		"examples/enqueue": {"client"},
		"examples/durable": {"actions", "durable", "node", "store/sqlite"},
		"bench/contest":    {"bench/lab", "bench/load", "bench/report", "bench/tasks"},
		"bench/report":     {"bench/lab"},
		"bench/tasks":      {"bench/load"},
	}
}

// modules says which modules of other people each room uses, tests aside. A room
// without a row uses the standard library only. docs/adr/0004 has the reasons.
func modules() map[string][]string {
	return map[string][]string{
		"actions":        {"golang.org/x/text"},
		"balancer/relay": {"golang.org/x/sys"},
		"durable":        {"github.com/oklog/ulid/v2"},
		"httpapi":        {"github.com/coder/websocket"},
		"node": {
			"github.com/pires/go-proxyproto", "github.com/prometheus/client_golang", "golang.org/x/sys",
		},
		"cmd/posta": {
			"github.com/spf13/cobra", "github.com/spf13/pflag", "golang.org/x/sync",
		},
		"cmd/posta/load":     {"golang.org/x/sync"},
		"cmd/posta/option":   {"github.com/lmittmann/tint", "github.com/spf13/cobra", "github.com/spf13/pflag"},
		"cmd/posta/stream":   {"golang.org/x/sync"},
		"cmd/posta/secure":   {"github.com/spf13/pflag"},
		"cmd/posta/target":   {"github.com/spf13/cobra"},
		"cmd/posta/terminal": {"golang.org/x/term"},

		"bench/contest":         {"github.com/jackc/pgx/v5"},
		"broker/rabbitmq/amqp":  {"github.com/rabbitmq/amqp091-go"},
		"blob/s3":               {"github.com/minio/minio-go/v7"},
		"store/sqlite/file":     {"modernc.org/sqlite"},
		"store/storetest":       {"pgregory.net/rapid"},
		"store/postgres":        {"github.com/jackc/pgx/v5", "github.com/oklog/ulid/v2"},
		"store/postgres/server": {"github.com/jackc/pgx/v5"},
	}
}

// TestEachRoomImportsWhatTheTableSays holds the imports between rooms to arrows.
func TestEachRoomImportsWhatTheTableSays(t *testing.T) {
	t.Parallel()
	table := arrows()
	for _, r := range rooms(t) {
		allowed, known := table[r.name]
		if !known {
			t.Errorf("%s is a room that the table does not know: give it a row in arrows() (architecture_test.go), "+
				"a line in doc.go and a box in docs/architecture.md, or put its code into the room it belongs to", r.name)
			continue
		}
		actual := r.arrows()
		for _, to := range without(actual, allowed) {
			t.Errorf("%s imports %s, which the table does not allow. What two rooms must share is handed over by node "+
				"(a function or a value in a Config); if the arrow is right nevertheless, it is a design change: "+
				"add it to arrows() (architecture_test.go) and to docs/architecture.md in the same commit", r.name, to)
		}
		for _, to := range without(allowed, actual) {
			t.Errorf("%s no longer imports %s: take the arrow out of arrows() (architecture_test.go) "+
				"and out of docs/architecture.md", r.name, to)
		}
	}
}

// TestTheTableNamesOnlyRoomsThatExist keeps the table from outliving the code,
// and would notice if the walk over the repository found nothing to check.
func TestTheTableNamesOnlyRoomsThatExist(t *testing.T) {
	t.Parallel()
	var found []string
	for _, r := range rooms(t) {
		found = append(found, r.name)
	}
	for _, name := range without(slices.Sorted(maps.Keys(arrows())), found) {
		t.Errorf("arrows() (architecture_test.go) has a row for %s, where there is no Go code: delete the row", name)
	}
	for _, name := range without(slices.Sorted(maps.Keys(modules())), found) {
		t.Errorf("modules() (architecture_test.go) has a row for %s, where there is no Go code: delete the row", name)
	}
	if len(found) < 12 {
		t.Errorf("found only %d rooms (%s): these tests look at too little", len(found), strings.Join(found, " "))
	}
}

// TestEachRoomUsesTheModulesThatTheTableSays holds imports of other people's
// code to modules.
func TestEachRoomUsesTheModulesThatTheTableSays(t *testing.T) {
	t.Parallel()
	table := modules()
	required := requiredModules(t)
	for _, r := range rooms(t) {
		actual := r.modules(required)
		for _, m := range without(actual, table[r.name]) {
			t.Errorf("%s imports %s, which modules() (architecture_test.go) does not allow there. Use the standard library, "+
				"or the room that has the library already; if the room needs it, add it to modules() and its reason to "+
				"docs/adr/0004-dependencies.md", r.name, m)
		}
		for _, m := range without(table[r.name], actual) {
			t.Errorf("%s no longer uses %s: take it out of modules() (architecture_test.go)", r.name, m)
		}
	}
}

// TestThePictureShowsTheArrowsThatAre compares the drawing in
// docs/architecture.md with the imports.
func TestThePictureShowsTheArrowsThatAre(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	picture, err := firstMermaid(string(text))
	if err != nil {
		t.Fatalf("docs/architecture.md: %v", err)
	}
	drawn := picture.arrowsByLabel()
	var actual []string
	for _, r := range rooms(t) {
		if isBeside(r.name) {
			continue
		}
		for _, to := range r.arrows() {
			actual = append(actual, r.name+" --> "+to)
		}
	}
	for _, a := range without(actual, drawn) {
		t.Errorf("docs/architecture.md does not draw the import %s: add it to the picture", a)
	}
	for _, a := range without(drawn, actual) {
		t.Errorf("docs/architecture.md draws %s, but there is no such import: take it out of the picture", a)
	}
}

// TestThePageHasARowForEachRoom wants to be told what each room is for.
func TestThePageHasARowForEachRoom(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	var described []string
	for _, m := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\|").FindAllStringSubmatch(string(text), -1) {
		described = append(described, m[1])
	}
	var house []string
	for _, r := range rooms(t) {
		if r.name != "." && !isBeside(r.name) {
			house = append(house, r.name)
		}
	}
	for _, name := range without(house, described) {
		t.Errorf("docs/architecture.md does not say what %s is for: give it a row", name)
	}
	for _, name := range without(described, house) {
		t.Errorf("docs/architecture.md has a row for %s, which is no room: delete the row", name)
	}
}

// isBeside tells the rooms that prove, measure and show the house from those it is made of.
func isBeside(name string) bool {
	top, _, _ := strings.Cut(name, "/")
	return top == "examples" || top == "bench" || top == "chaos"
}

// TestNobodyImportsTheBinary keeps the wiring at the end of all arrows.
func TestNobodyImportsTheBinary(t *testing.T) {
	t.Parallel()
	for _, f := range allFiles(t) {
		if path.Dir(f.path) != "cmd/posta" && slices.Contains(f.imports(), module+"/cmd/posta") {
			t.Errorf("%s imports cmd/posta: move what it needs into a room of its own", f.path)
		}
	}
}

// arrows gives the rooms that the room's code imports, sorted.
func (r room) arrows() []string {
	var to []string
	for _, p := range r.imports() {
		switch {
		case p == module:
			to = append(to, ".")
		case strings.HasPrefix(p, module+"/"):
			to = append(to, strings.TrimPrefix(p, module+"/"))
		}
	}
	return to
}

// modules gives the modules among required that the room's code imports. What
// belongs to none of them is standard library, or would not compile.
func (r room) modules(required []string) []string {
	var used []string
	for _, p := range r.imports() {
		for _, m := range required {
			if p == m || strings.HasPrefix(p, m+"/") {
				used = append(used, m)
			}
		}
	}
	slices.Sort(used)
	return slices.Compact(used)
}

// requiredModules reads the module paths of go.mod.
func requiredModules(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	var paths []string
	for _, m := range regexp.MustCompile(`(?m)^(?:require)?\s+(\S+) v\S+`).FindAllStringSubmatch(string(text), -1) {
		paths = append(paths, m[1])
	}
	if len(paths) < 5 {
		t.Fatalf("found only %d modules in go.mod: %v", len(paths), paths)
	}
	return paths
}

// without gives the items of list that are not in other.
func without(list, other []string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return slices.Contains(other, s) })
}
