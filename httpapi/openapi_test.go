package httpapi_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files anew")

const golden = "testdata/openapi.golden.json"

// document is the OpenAPI document as a server tells it.
func document(t *testing.T) (text string, tree map[string]any) {
	t.Helper()
	d := open(t)
	got := d.do(d.request("GET", "/openapi.json", ""))
	if got.status != http.StatusOK || got.header.Get("Content-Type") != "application/json" {
		t.Fatalf("%d %v", got.status, got.header)
	}
	if err := json.Unmarshal([]byte(got.body), &tree); err != nil {
		t.Fatal(err)
	}
	return got.body, tree
}

func TestTheDocumentIsAsItWas(t *testing.T) {
	t.Parallel()
	text, _ := document(t)
	if *update {
		if err := os.WriteFile(golden, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	was, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(was), text); diff != "" {
		t.Errorf("go test ./httpapi -run Document -update writes it anew:\n%s", diff)
	}
}

// TestTheDocumentHoldsTogether looks at what a reader of the document relies on.
func TestTheDocumentHoldsTogether(t *testing.T) {
	t.Parallel()
	text, tree := document(t)
	if tree["openapi"] != "3.1.0" {
		t.Errorf("it is of version %v", tree["openapi"])
	}
	shapes := tree["components"].(map[string]any)["schemas"].(map[string]any)
	used := map[string]bool{}
	for _, found := range regexp.MustCompile(`"\$ref": "#/components/schemas/(\w+)"`).FindAllStringSubmatch(text, -1) {
		used[found[1]] = true
		if shapes[found[1]] == nil {
			t.Errorf("it refers to the schema %s, which it does not have", found[1])
		}
	}
	if strings.Count(text, "$ref") != strings.Count(text, `"#/components/schemas/`) {
		t.Error("it refers to something that is no schema")
	}
	for name := range shapes {
		if !used[name] {
			t.Errorf("nothing refers to the schema %s", name)
		}
	}
	names := map[string]bool{}
	for path, methods := range tree["paths"].(map[string]any) {
		for method, operation := range methods.(map[string]any) {
			checkOperation(t, method+" "+path, operation.(map[string]any), names)
		}
	}
	if len(names) < 20 {
		t.Errorf("it has %d operations only", len(names))
	}
}

// TestThePageNamesEveryRoute compares docs/http.md with the document.
func TestThePageNamesEveryRoute(t *testing.T) {
	t.Parallel()
	_, tree := document(t)
	text, err := os.ReadFile("../docs/http.md")
	if err != nil {
		t.Fatal(err)
	}
	routes := 0
	for path, methods := range tree["paths"].(map[string]any) {
		for method := range methods.(map[string]any) {
			routes++
			if row := fmt.Sprintf("| `%s %s` |", strings.ToUpper(method), path); !strings.Contains(string(text), row) {
				t.Errorf("docs/http.md has no row %s", row)
			}
		}
	}
	if rows := strings.Count(string(text), "\n| `GET ") + strings.Count(string(text), "\n| `P") + strings.Count(string(text), "\n| `DELETE "); rows != routes {
		t.Errorf("docs/http.md has rows for %d routes, and there are %d", rows, routes)
	}
}

// checkOperation wants a name of its own, an answer besides refusals, and each parameter of its path.
func checkOperation(t *testing.T, route string, operation map[string]any, names map[string]bool) {
	t.Helper()
	name, _ := operation["operationId"].(string)
	if name == "" || names[name] || operation["summary"] == "" {
		t.Errorf("%s has the name %q, which is empty or another's, or no summary", route, name)
	}
	names[name] = true
	responses := operation["responses"].(map[string]any)
	if len(responses) < 2 || responses["default"] == nil {
		t.Errorf("%s has the answers %v", route, responses)
	}
	for status, response := range responses {
		if response.(map[string]any)["description"] == "" {
			t.Errorf("%s does not say what %s means", route, status)
		}
	}
	var declared []string
	parameters, _ := operation["parameters"].([]any)
	for _, p := range parameters {
		if p := p.(map[string]any); p["in"] == "path" {
			declared = append(declared, fmt.Sprintf("{%s}", p["name"]))
		}
	}
	if inPath := regexp.MustCompile(`\{\w+\}`).FindAllString(route, -1); !slices.Equal(inPath, declared) {
		t.Errorf("%s declares the parameters %v", route, declared)
	}
}

// TestEveryRouteOfTheDocumentIsServed asks each route, of a node without a store.
func TestEveryRouteOfTheDocumentIsServed(t *testing.T) {
	t.Parallel()
	_, tree := document(t)
	d := open(t)
	for path, methods := range tree["paths"].(map[string]any) {
		for method := range methods.(map[string]any) {
			at := strings.NewReplacer("{task}", "01J", "{queue}", "mail", "{worker}", "w", "{lease}", "a.1").Replace(path)
			got := d.do(d.request(strings.ToUpper(method), at, ""))
			if got.status == http.StatusNotFound || got.status == http.StatusMethodNotAllowed {
				t.Errorf("%s %s answers %d", method, path, got.status)
			}
		}
	}
}
