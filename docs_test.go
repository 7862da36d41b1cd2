package posta_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestBothREADMEsHaveTheSameShape holds the Spanish README to the English one:
// the same sections in the same order, and the same blocks to the byte.
func TestBothREADMEsHaveTheSameShape(t *testing.T) {
	t.Parallel()
	english, spanish := readPage(t, "README.md"), readPage(t, "README.es.md")
	if a, b := english.levels(), spanish.levels(); !slices.Equal(a, b) {
		t.Errorf("the headings have the levels %v in README.md and %v in README.es.md: "+
			"each section must be in both, in the same order", a, b)
	}
	if len(english.blocks) != len(spanish.blocks) {
		t.Fatalf("README.md has %d blocks and README.es.md %d: each must be in both",
			len(english.blocks), len(spanish.blocks))
	}
	for i, b := range english.blocks {
		other := spanish.blocks[i]
		if b.language != other.language || b.note != other.note || b.text != other.text {
			t.Errorf("the block at README.es.md:%d differs from the one at README.md:%d: copy it", other.line, b.line)
		}
	}
	if a, b := english.targets(), spanish.targets(); !slices.Equal(a, b) {
		t.Errorf("the links of README.es.md lead elsewhere than those of README.md: missing %v, extra %v",
			without(a, b), without(b, a))
	}
}

func (p page) levels() []int {
	var levels []int
	for _, h := range p.headings {
		levels = append(levels, h.level)
	}
	return levels
}

// targets returns what the page links to, sorted; a link to the page in the other
// language counts as one to README.md.
func (p page) targets() []string {
	var targets []string
	for _, l := range p.links {
		targets = append(targets, strings.Replace(l.target, "README.es.md", "README.md", 1))
	}
	slices.Sort(targets)
	return targets
}

// TestEveryLinkBetweenPagesLeadsSomewhere follows the relative links of all
// Markdown files.
func TestEveryLinkBetweenPagesLeadsSomewhere(t *testing.T) {
	t.Parallel()
	followed := 0
	for _, name := range trackedFiles(t) {
		if filepath.Ext(name) != ".md" {
			continue
		}
		for _, l := range readPage(t, name).links {
			target, anchor, _ := strings.Cut(l.target, "#")
			if strings.Contains(l.target, "://") {
				continue
			}
			followed++
			file := path.Join(path.Dir(name), target)
			if target == "" {
				file = name
			}
			if _, err := os.Stat(file); err != nil {
				t.Errorf("%s:%d links to %s, which does not exist", name, l.line, l.target)
				continue
			}
			if anchor != "" && !slices.Contains(readPage(t, file).anchors(), anchor) {
				t.Errorf("%s:%d links to the heading #%s, which %s does not have", name, l.line, anchor, file)
			}
		}
	}
	if followed < 20 {
		t.Errorf("followed only %d links: this test looks at too little", followed)
	}
}

// anchors returns the names under which the page's headings can be linked to.
func (p page) anchors() []string {
	var names []string
	for _, h := range p.headings {
		name := regexp.MustCompile(`[^\p{L}\p{N} _-]`).ReplaceAllString(strings.ToLower(h.text), "")
		names = append(names, strings.ReplaceAll(name, " ", "-"))
	}
	return names
}

// tourStop matches the text of a link to a function: `package.Func` or
// `package.Type.Method`, in backticks.
var tourStop = regexp.MustCompile("^`([a-z]+)\\.(?:([A-Za-z]+)\\.)?([A-Za-z]+)`$")

// TestTheTourStopsAtFunctionsThatExist looks up each function that docs/tour.md
// links to in the file that it links to.
func TestTheTourStopsAtFunctionsThatExist(t *testing.T) {
	t.Parallel()
	stops := 0
	for _, l := range readPage(t, "docs/tour.md").links {
		m := tourStop.FindStringSubmatch(l.text)
		if m == nil {
			continue
		}
		stops++
		file, err := parser.ParseFile(token.NewFileSet(), path.Join("docs", l.target), nil, parser.SkipObjectResolution)
		if err != nil {
			t.Errorf("docs/tour.md:%d: %s cannot be read as Go: where has %s gone? %v", l.line, l.target, m[0], err)
			continue
		}
		if !declares(file, m[2], m[3]) {
			t.Errorf("docs/tour.md:%d: %s has no %s: name the function that does it now, or the file it has moved to",
				l.line, l.target, m[0])
		}
	}
	if stops < 15 {
		t.Errorf("the tour has only %d stops that the test understands", stops)
	}
}

// declares reports whether a Go file has the function, or the method of the type; with
// no type, a type or a variable of that name will do too.
func declares(file *ast.File, typeName, name string) bool {
	found := false
	for _, d := range file.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			found = found || d.Name.Name == name && receiver(d) == typeName
		case *ast.GenDecl:
			found = found || typeName == "" && slices.ContainsFunc(d.Specs, func(s ast.Spec) bool { return specDeclares(s, name) })
		}
	}
	return found
}

// receiver returns the name of a method's type, and "" for a function.
func receiver(fn *ast.FuncDecl) string {
	name := ""
	if fn.Recv != nil {
		ast.Inspect(fn.Recv.List[0].Type, func(n ast.Node) bool {
			if id, ok := n.(*ast.Ident); ok && name == "" {
				name = id.Name
			}
			return true
		})
	}
	return name
}

func specDeclares(spec ast.Spec, name string) bool {
	switch s := spec.(type) {
	case *ast.TypeSpec:
		return s.Name.Name == name
	case *ast.ValueSpec:
		return slices.ContainsFunc(s.Names, func(n *ast.Ident) bool { return n.Name == name })
	}
	return false
}

// TestThePicturesOfTheTopologyShowTheSame compares the Mermaid picture of the
// README with the PlantUML one.
func TestThePicturesOfTheTopologyShowTheSame(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	mermaid, err := firstMermaid(string(text))
	if err != nil {
		t.Fatalf("README.md: %v", err)
	}
	text, err = os.ReadFile("docs/diagrams/topology.puml")
	if err != nil {
		t.Fatal(err)
	}
	plant, err := parsePlantUML(string(text))
	if err != nil {
		t.Fatalf("docs/diagrams/topology.puml: %v", err)
	}
	const hint = "draw the same parts and arrows in README.md, README.es.md and docs/diagrams/topology.puml"
	if a, b := mermaid.parts(), plant.parts(); !slices.Equal(a, b) {
		t.Errorf("only in README.md: %q; only in topology.puml: %q: %s", without(a, b), without(b, a), hint)
	}
	if a, b := mermaid.arrowsByLabel(), plant.arrowsByLabel(); !slices.Equal(a, b) {
		t.Errorf("only in README.md: %q; only in topology.puml: %q: %s", without(a, b), without(b, a), hint)
	}
	if len(mermaid.parts()) < 6 {
		t.Errorf("the picture names only %q", mermaid.parts())
	}
}

// TestEveryDependencyHasItsReason wants each module of go.mod in the decision
// about dependencies, and nothing there that go.mod no longer has.
func TestEveryDependencyHasItsReason(t *testing.T) {
	t.Parallel()
	const decision = "docs/adr/0004-dependencies.md"
	text, err := os.ReadFile(decision)
	if err != nil {
		t.Fatal(err)
	}
	var reasoned []string
	for _, m := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\|").FindAllStringSubmatch(string(text), -1) {
		reasoned = append(reasoned, m[1])
	}
	required := requiredModules(t)
	for _, m := range without(required, reasoned) {
		t.Errorf("go.mod requires %s, and %s does not say why: add its row", m, decision)
	}
	for _, m := range without(reasoned, required) {
		t.Errorf("%s gives a reason for %s, which go.mod no longer requires: delete its row", decision, m)
	}
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

// without returns the items of list that are not in other.
func without(list, other []string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return slices.Contains(other, s) })
}
