package posta_test

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/token"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// TestEachRoomHasOnePackageComment wants the words of a room in one place.
func TestEachRoomHasOnePackageComment(t *testing.T) {
	t.Parallel()
	for _, r := range rooms(t) {
		var with []string
		for _, f := range r.code() {
			if f.syntax.Doc.Text() != "" {
				with = append(with, f.path)
			}
		}
		switch {
		case len(with) == 0:
			t.Errorf("%s has no package comment: say in one file what the room is for, its words, "+
				"and what it leaves to others", r.name)
		case len(with) > 1:
			t.Errorf("%s has %d package comments, in %s: keep one", r.name, len(with), strings.Join(with, " and "))
		}
	}
}

// TestTheHabitsAreKept looks for what style forbids anywhere.
func TestTheHabitsAreKept(t *testing.T) {
	t.Parallel()
	for _, f := range allFiles(t) {
		for _, complaint := range f.badHabits() {
			t.Error(complaint)
		}
	}
}

// badHabits lists undocumented exported names, init functions and package
// variables that change in code, and sleeps in tests.
func (f sourceFile) badHabits() []string {
	if f.test {
		return f.sleeps()
	}
	complaints := f.undocumented()
	for _, d := range f.syntax.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if ok && fn.Name.Name == "init" && fn.Recv == nil {
			complaints = append(complaints, f.at(fn.Pos())+": an init function: do it in a constructor, which can be called, "+
				"tested and given arguments")
		}
	}
	return append(complaints, f.hiddenState()...)
}

func (f sourceFile) sleeps() []string {
	var complaints []string
	ast.Inspect(f.syntax, func(n ast.Node) bool {
		if sel, ok := n.(*ast.SelectorExpr); ok && isName(sel.X, "time") && sel.Sel.Name == "Sleep" {
			complaints = append(complaints, f.at(n.Pos())+": a test must not sleep: wait for a channel, poll until a deadline, "+
				"or put the clock under testing/synctest and wait for time.After")
		}
		return true
	})
	return complaints
}

// undocumented lists exported names without a comment. A constant or variable may
// share the comment of its group.
func (f sourceFile) undocumented() []string {
	var complaints []string
	check := func(name *ast.Ident, docs ...*ast.CommentGroup) {
		if !name.IsExported() {
			return
		}
		for _, d := range docs {
			if strings.TrimSpace(d.Text()) != "" {
				return
			}
		}
		complaints = append(complaints, fmt.Sprintf("%s: %s is exported and has no comment: say what it promises "+
			"(units, limits, errors, who closes, whether it is safe for concurrent use), or do not export it",
			f.at(name.Pos()), name.Name))
	}
	for _, d := range f.syntax.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Recv == nil || receiver(d).IsExported() {
				check(d.Name, d.Doc)
			}
		case *ast.GenDecl:
			undocumentedSpecs(d, check)
		}
	}
	return complaints
}

func undocumentedSpecs(d *ast.GenDecl, check func(*ast.Ident, ...*ast.CommentGroup)) {
	for _, spec := range d.Specs {
		switch s := spec.(type) {
		case *ast.ValueSpec:
			for _, name := range s.Names {
				check(name, s.Doc, s.Comment, d.Doc)
			}
		case *ast.TypeSpec:
			group := d.Doc
			if d.Lparen.IsValid() {
				group = nil // the comment of a group of types says nothing of one
			}
			check(s.Name, s.Doc, s.Comment, group)
			undocumentedMethods(s, check)
		}
	}
}

func undocumentedMethods(s *ast.TypeSpec, check func(*ast.Ident, ...*ast.CommentGroup)) {
	contract, ok := s.Type.(*ast.InterfaceType)
	if !ok || !s.Name.IsExported() {
		return
	}
	for _, m := range contract.Methods.List {
		for _, name := range m.Names {
			check(name, m.Doc, m.Comment)
		}
	}
}

// receiver gives the name of the type that a method belongs to.
func receiver(fn *ast.FuncDecl) *ast.Ident {
	expr := fn.Recv.List[0].Type
	for {
		switch e := expr.(type) {
		case *ast.StarExpr:
			expr = e.X
		case *ast.IndexExpr:
			expr = e.X
		case *ast.IndexListExpr:
			expr = e.X
		case *ast.Ident:
			return e
		default:
			return ast.NewIdent("_")
		}
	}
}

// hiddenState lists package variables that the file assigns to after their
// declaration, and those that are made to change: locks, pools and counters.
func (f sourceFile) hiddenState() []string {
	names := map[string]bool{}
	var complaints []string
	complain := func(pos token.Pos, name string) {
		complaints = append(complaints, fmt.Sprintf("%s: %s is state of the whole package: keep it in a value that a "+
			"constructor makes, so that two of them can live side by side", f.at(pos), name))
	}
	for _, d := range f.syntax.Decls {
		group, ok := d.(*ast.GenDecl)
		if !ok || group.Tok != token.VAR {
			continue
		}
		for _, spec := range group.Specs {
			value := spec.(*ast.ValueSpec)
			for _, name := range value.Names {
				names[name.Name] = true
			}
			if isSync(value) {
				complain(value.Pos(), value.Names[0].Name)
			}
		}
	}
	for _, name := range assigned(f.syntax, names) {
		complain(name.Pos(), name.Name)
	}
	return complaints
}

// isSync reports whether a variable's type or first value comes from sync or
// sync/atomic.
func isSync(value *ast.ValueSpec) bool {
	expr := value.Type
	if expr == nil && len(value.Values) > 0 {
		expr = value.Values[0]
		if lit, ok := expr.(*ast.CompositeLit); ok {
			expr = lit.Type
		}
	}
	sel, ok := expr.(*ast.SelectorExpr)
	return ok && (isName(sel.X, "sync") || isName(sel.X, "atomic"))
}

// assigned finds the names among wanted that are on the left of an assignment, or
// are the map or array whose entry is.
func assigned(file *ast.File, wanted map[string]bool) []*ast.Ident {
	var found []*ast.Ident
	look := func(expr ast.Expr) {
		if index, ok := expr.(*ast.IndexExpr); ok {
			expr = index.X
		}
		if name, ok := expr.(*ast.Ident); ok && wanted[name.Name] && name.Name != "_" {
			found = append(found, name)
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.AssignStmt:
			if n.Tok == token.DEFINE {
				return true
			}
			for _, left := range n.Lhs {
				look(left)
			}
		case *ast.IncDecStmt:
			look(n.X)
		}
		return true
	})
	return found
}

func isName(expr ast.Expr, name string) bool {
	id, ok := expr.(*ast.Ident)
	return ok && id.Name == name
}

// TestBadHabitsAreNoticed checks the checker.
func TestBadHabitsAreNoticed(t *testing.T) {
	t.Parallel()
	cases := []struct{ name, file, code, want string }{
		{"a documented function", "p.go", "// F is.\nfunc F() {}", ""},
		{"an undocumented function", "p.go", "func F() {}", "F is exported"},
		{"a private function", "p.go", "func f() {}", ""},
		{"an undocumented method", "p.go", "// T is.\ntype T struct{}\nfunc (t *T) M() {}", "M is exported"},
		{"an exported method of a private type", "p.go", "type t struct{}\nfunc (t *t) M() {}", ""},
		{"an undocumented type", "p.go", "type T int", "T is exported"},
		{"a type that has only the comment of its group", "p.go", "// Types.\ntype (\n\tT int\n)", "T is exported"},
		{"a constant with the comment of its group", "p.go", "// Sizes.\nconst (\n\tA = 1\n\tB = 2\n)", ""},
		{"an undocumented constant", "p.go", "const A = 1", "A is exported"},
		{"an undocumented method of an interface", "p.go", "// T is.\ntype T interface { M() }", "M is exported"},
		{"an init function", "p.go", "func init() {}", "an init function"},
		{"a method named init", "p.go", "func (t t) init() {}", ""},
		{"a table", "p.go", "var table = map[string]int{\"a\": 1}", ""},
		{"a table that is written to", "p.go", "var table = map[string]int{}\nfunc f() { table[\"a\"] = 1 }", "table is state"},
		{"a counter", "p.go", "var n int\nfunc f() { n++ }", "n is state"},
		{"a lock", "p.go", "var mu sync.Mutex", "mu is state"},
		{"a pool", "p.go", "var buffers = sync.Pool{}", "buffers is state"},
		{"an error that never changes", "p.go", "var errClosed = errors.New(\"closed\")", ""},
		{"a sleep in a test", "p_test.go", "func f() { time.Sleep(1) }", "must not sleep"},
		{"a sleep in code", "p.go", "func f() { time.Sleep(1) }", ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f, err := parseSource(c.file, []byte("package p\n"+c.code))
			if err != nil {
				t.Fatal(err)
			}
			checkComplaints(t, f.badHabits(), c.want)
		})
	}
}

// machinePath matches absolute paths that exist on one person's machine only, and
// packageHost the places that packages are fetched from, which belong to a
// machine's settings and not to the repository.
var (
	machinePath = regexp.MustCompile(`(^|[^A-Za-z0-9_./-])/(home|root|Users|work|workspace|mnt|private)/`)
	packageHost = regexp.MustCompile(`GOPROXY[=]|(proxy|sum)\.golang\.org|registry\.npmjs|deb\.debian\.org|files\.pythonhosted`)
)

// TestNoFileNamesTheMachineItWasWrittenOn reads all files that are, or are about
// to be, under version control.
func TestNoFileNamesTheMachineItWasWrittenOn(t *testing.T) {
	t.Parallel()
	names := trackedFiles(t)
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil || bytes.IndexByte(text, 0) >= 0 {
			continue // deleted but not yet committed, or no text
		}
		for i, line := range strings.Split(string(text), "\n") {
			if machinePath.MatchString(line) || packageHost.MatchString(line) {
				t.Errorf("%s:%d names a path or a package host of one machine: use a relative path, $HOME, a temporary "+
					"folder or the tools' own settings\n\t%s", name, i+1, strings.TrimSpace(line))
			}
		}
	}
}

// trackedFiles lists the files that git has or would add.
func trackedFiles(t *testing.T) []string {
	t.Helper()
	out, err := exec.Command("git", "ls-files", "-co", "--exclude-standard").Output()
	if err != nil {
		t.Skipf("this copy of the repository has no git: %v", err)
	}
	names := strings.Fields(string(out))
	if len(names) < 20 {
		t.Fatalf("git names only %d files: this test looks at too little", len(names))
	}
	return names
}

// TestNothingThatWasBuiltIsTracked looks for files that are too large to have been
// written by hand.
func TestNothingThatWasBuiltIsTracked(t *testing.T) {
	t.Parallel()
	const most = 512 << 10
	for _, name := range trackedFiles(t) {
		if info, err := os.Stat(name); err == nil && info.Size() > most {
			t.Errorf("%s has %d bytes: if it was built, delete it and name it in .gitignore", name, info.Size())
		}
	}
}

// checkComplaints wants exactly one complaint that contains want, or none when
// want is empty.
func checkComplaints(t *testing.T, got []string, want string) {
	t.Helper()
	switch {
	case want == "" && len(got) > 0:
		t.Errorf("complaints %q, want none", got)
	case want != "" && (len(got) != 1 || !strings.Contains(got[0], want)):
		t.Errorf("complaints %q, want one that says %q", got, want)
	}
}
