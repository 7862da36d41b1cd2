package posta_test

import (
	"fmt"
	"go/ast"
	"go/token"
	"slices"
	"strings"
	"testing"
)

// The ceilings on size. Each is far above what is usual here: who hits one has
// usually two things in one place.
const (
	maxFunctionLines = 70
	maxFileLines     = 500
	maxRoomLines     = 1500
	maxLargeRoom     = 3000 // for the rooms of largeRooms
	maxNesting       = 3    // if, for, switch and select inside each other
	maxParameters    = 5
	maxMethods       = 6 // of an interface
)

// largeRooms are allowed to grow to maxLargeRoom: they are many small files of
// one shape, a verb, a route or a theme of a suite each.
func largeRooms() []string { return []string{"cmd/posta", "durable", "httpapi", "store/storetest"} }

// TestNothingIsLargerThanItsCeiling checks files, functions and interfaces.
func TestNothingIsLargerThanItsCeiling(t *testing.T) {
	t.Parallel()
	for _, f := range allFiles(t) {
		if f.lines > maxFileLines {
			t.Errorf("%s has %d lines, %d are allowed: split it by sub-noun, a file each", f.path, f.lines, maxFileLines)
		}
		if f.test {
			continue
		}
		for _, complaint := range f.oversized() {
			t.Error(complaint)
		}
	}
}

// TestNoRoomIsLargerThanItsCeiling adds up the code of each room.
func TestNoRoomIsLargerThanItsCeiling(t *testing.T) {
	t.Parallel()
	for _, r := range rooms(t) {
		limit, sum := maxRoomLines, 0
		if slices.Contains(largeRooms(), r.name) {
			limit = maxLargeRoom
		}
		for _, f := range r.code() {
			sum += f.lines
		}
		if sum > limit {
			t.Errorf("%s has %d lines of code, %d are allowed: find the second noun in it and give it a room of its own "+
				"(own noun, own tests, own reason to change)", r.name, sum, limit)
		}
	}
}

// oversized lists what in the file is above a ceiling.
func (f sourceFile) oversized() []string {
	var complaints []string
	complain := func(pos token.Pos, format string, args ...any) {
		complaints = append(complaints, f.at(pos)+": "+fmt.Sprintf(format, args...))
	}
	ast.PreorderStack(f.syntax, nil, func(n ast.Node, stack []ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			if lines := f.span(n); lines > maxFunctionLines {
				complain(n.Pos(), "%s has %d lines, %d are allowed: give its steps names of their own",
					n.Name.Name, lines, maxFunctionLines)
			}
		case *ast.FuncType:
			if count := n.Params.NumFields(); count > maxParameters {
				complain(n.Pos(), "%d parameters, %d are allowed: put what belongs together into a struct",
					count, maxParameters)
			}
		case *ast.InterfaceType:
			if count := n.Methods.NumFields(); count > maxMethods {
				complain(n.Pos(), "an interface of %d methods, %d are allowed: split it by who uses it", count, maxMethods)
			}
		}
		if depth := nesting(n, stack); depth == maxNesting+1 {
			complain(n.Pos(), "nested %d deep, %d are allowed: return early, or give the inner part a function",
				depth, maxNesting)
		}
		return true
	})
	return complaints
}

func (f sourceFile) span(n ast.Node) int {
	return f.fset.Position(n.End()).Line - f.fset.Position(n.Pos()).Line + 1
}

// nesting says how deep a control statement stands inside others of the same
// function; 0 for any other node. A closure counts anew, since it is a function,
// and "else if" stands beside its if, not in it.
func nesting(n ast.Node, stack []ast.Node) int {
	if !isControl(n, parent(stack)) {
		return 0
	}
	depth := 1
	for i := len(stack) - 1; i >= 0; i-- {
		if _, closure := stack[i].(*ast.FuncLit); closure {
			break
		}
		if isControl(stack[i], parent(stack[:i])) {
			depth++
		}
	}
	return depth
}

func isControl(n, parent ast.Node) bool {
	switch n := n.(type) {
	case *ast.IfStmt:
		outer, ok := parent.(*ast.IfStmt)
		return !ok || outer.Else != ast.Stmt(n)
	case *ast.ForStmt, *ast.RangeStmt, *ast.SwitchStmt, *ast.TypeSwitchStmt, *ast.SelectStmt:
		return true
	}
	return false
}

func parent(stack []ast.Node) ast.Node {
	if len(stack) == 0 {
		return nil
	}
	return stack[len(stack)-1]
}

// TestTheCeilingsAreNoticed checks the checker: each piece of code breaks one
// ceiling, or comes as close to it as is allowed.
func TestTheCeilingsAreNoticed(t *testing.T) {
	t.Parallel()
	lines := func(n int) string { return "func f() {\n" + strings.Repeat("\tg()\n", n-2) + "}\n" }
	cases := []struct{ name, code, want string }{
		{"a function at the ceiling", lines(maxFunctionLines), ""},
		{"a function above it", lines(maxFunctionLines + 1), "71 lines"},
		{"three deep", "func f() { for { if a { switch { case b: g() } } } }", ""},
		{"four deep", "func f() { for { if a { switch { case b: if c { g() } } } } }", "nested 4 deep"},
		{"five deep is one complaint", "func f() { for { for { for { for { for { g() } } } } } }", "nested 4 deep"},
		{"else if is not deeper", "func f() { for { for { if a { g() } else if b { g() } else if c { g() } } } }", ""},
		{"below an else is deeper", "func f() { for { for { if a { g() } else { if b { g() } } } } }", "nested 4 deep"},
		{"a closure counts anew", "func f() { for { if a { for { func() { for { if b { for { } } } }() } } } }", ""},
		{"a closure can be too deep", "func f() { func() { for { for { for { for { } } } } }() }", "nested 4 deep"},
		{"five parameters", "func f(a, b int, c, d, e string) {}", ""},
		{"six parameters", "func f(a, b int, c, d, e, g string) {}", "6 parameters"},
		{"six parameters of a method", "type T interface { M(a, b, c, d, e, f int) }", "6 parameters"},
		{"six methods", "type T interface { A(); B(); C(); D(); E(); F() }", ""},
		{"seven methods", "type T interface { A(); B(); C(); D(); E(); F(); G() }", "7 methods"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f, err := parseSource("p.go", []byte("package p\n"+c.code))
			if err != nil {
				t.Fatal(err)
			}
			checkComplaints(t, f.oversized(), c.want)
		})
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
