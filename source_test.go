package posta_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// module is the import path of the repository's root.
const module = "github.com/posta-tasks/posta"

// room is one package: a folder and the Go files in it.
type room struct {
	name  string // the folder, from the root, with slashes: "cmd/posta"; the root is "."
	files []sourceFile
}

// sourceFile is one parsed Go file.
type sourceFile struct {
	path   string // from the root, with slashes
	test   bool   // its name ends in _test.go
	lines  int
	syntax *ast.File
	fset   *token.FileSet
}

// sources reads the repository once for all tests.
var sources = sync.OnceValues(readRooms)

// rooms gives every folder that holds Go code which is no test, sorted by name.
func rooms(t *testing.T) []room {
	t.Helper()
	all, err := sources()
	if err != nil {
		t.Fatalf("reading the repository: %v", err)
	}
	return slices.DeleteFunc(slices.Clone(all), func(r room) bool { return len(r.code()) == 0 })
}

// allFiles gives every Go file of the repository, tests included.
func allFiles(t *testing.T) []sourceFile {
	t.Helper()
	all, err := sources()
	if err != nil {
		t.Fatalf("reading the repository: %v", err)
	}
	var files []sourceFile
	for _, r := range all {
		files = append(files, r.files...)
	}
	return files
}

// code gives the files of the room that are no tests.
func (r room) code() []sourceFile {
	return slices.DeleteFunc(slices.Clone(r.files), func(f sourceFile) bool { return f.test })
}

// imports gives the import paths of the room's code, sorted, each once.
func (r room) imports() []string {
	var paths []string
	for _, f := range r.code() {
		paths = append(paths, f.imports()...)
	}
	slices.Sort(paths)
	return slices.Compact(paths)
}

func (f sourceFile) imports() []string {
	var paths []string
	for _, spec := range f.syntax.Imports {
		p, err := strconv.Unquote(spec.Path.Value)
		if err == nil {
			paths = append(paths, p)
		}
	}
	return paths
}

// at names a place in the file as editors and go vet do.
func (f sourceFile) at(pos token.Pos) string {
	return fmt.Sprintf("%s:%d", f.path, f.fset.Position(pos).Line)
}

// readRooms parses every Go file below the root. Folders that Go itself passes
// over, and the modules that are nested in ours, are left out.
func readRooms() ([]room, error) {
	byName := map[string]*room{}
	err := filepath.WalkDir(".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			return skipFolder(name)
		}
		if filepath.Ext(name) != ".go" {
			return nil
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		f, err := parseSource(filepath.ToSlash(name), text)
		if err != nil {
			return err
		}
		folder := path.Dir(f.path)
		if byName[folder] == nil {
			byName[folder] = &room{name: folder}
		}
		byName[folder].files = append(byName[folder].files, f)
		return nil
	})
	var all []room
	for _, r := range byName {
		all = append(all, *r)
	}
	slices.SortFunc(all, func(a, b room) int { return strings.Compare(a.name, b.name) })
	return all, err
}

func skipFolder(name string) error {
	base := filepath.Base(name)
	hidden := base != "." && (strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_"))
	if hidden || slices.Contains([]string{"testdata", "build", "node_modules"}, base) {
		return filepath.SkipDir
	}
	if _, err := os.Stat(filepath.Join(name, "go.mod")); err == nil && base != "." {
		return filepath.SkipDir
	}
	return nil
}

func parseSource(name string, text []byte) (sourceFile, error) {
	fset := token.NewFileSet()
	syntax, err := parser.ParseFile(fset, name, text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return sourceFile{}, err
	}
	return sourceFile{
		path:   name,
		test:   strings.HasSuffix(name, "_test.go"),
		lines:  strings.Count(string(text), "\n"),
		syntax: syntax,
		fset:   fset,
	}, nil
}
