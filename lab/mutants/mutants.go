// Package mutants breaks Posta on purpose. Each patch in its folder removes one guard of the product, or
// gets it wrong. A test must then fail; otherwise the tests do not test that guard.
//
// The product itself contains no mutant: a patch is applied to copies of its files, which take their place
// in a build with go build -overlay.
package mutants

import (
	"bufio"
	"bytes"
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"net/textproto"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"

	"github.com/posta-tasks/posta/internal/testenv"
)

//go:embed patches/*.patch
var patches embed.FS

// Mutant is one patch. Its file begins with a header, as that of a mail: Wrong, Caught-By, Failpoints.
type Mutant struct {
	Name  string // of the file, without .patch
	Wrong string // what the product does wrong
	// Package and Test name the test that fails. Both are empty when a command catches the mutant, as the runs
	// on the cluster do, for which make check has no time.
	Package, Test string
	Command       string
	Failpoints    string // set while the test runs, so that it does not depend on chance
	patch         []byte
}

// All returns the mutants in the order of their names.
func All() ([]Mutant, error) {
	files, err := patches.ReadDir("patches")
	if err != nil {
		return nil, err
	}
	var list []Mutant
	for _, file := range files {
		name := strings.TrimSuffix(file.Name(), ".patch")
		text, err := patches.ReadFile(path.Join("patches", file.Name()))
		if err != nil {
			return nil, err
		}
		m, err := parse(name, text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file.Name(), err)
		}
		list = append(list, m)
	}
	return list, nil
}

// Find returns the mutant with a name.
func Find(name string) (Mutant, error) {
	list, err := All()
	if err != nil {
		return Mutant{}, err
	}
	var names []string
	for _, m := range list {
		if m.Name == name {
			return m, nil
		}
		names = append(names, m.Name)
	}
	return Mutant{}, fmt.Errorf("there is no mutant %q; the mutants are %s", name, strings.Join(names, ", "))
}

func parse(name string, text []byte) (Mutant, error) {
	header, err := textproto.NewReader(bufio.NewReader(bytes.NewReader(text))).ReadMIMEHeader()
	if err != nil {
		return Mutant{}, fmt.Errorf("its header: %w", err)
	}
	_, patch, _ := bytes.Cut(text, []byte("\n\n"))
	m := Mutant{Name: name, Wrong: header.Get("Wrong"), Failpoints: header.Get("Failpoints"), patch: patch}
	caught := header.Get("Caught-By")
	if strings.HasPrefix(caught, "make ") {
		m.Command = caught
	} else {
		m.Package, m.Test, _ = strings.Cut(caught, " ")
	}
	if m.Wrong == "" || m.Command == "" && m.Test == "" {
		return m, errors.New("its header needs Wrong: SENTENCE and Caught-By: PACKAGE TEST, or Caught-By: make COMMAND")
	}
	return m, nil
}

// Replace writes the patched files below dir. It returns, for each of these files, its path in the repository and
// the path of the copy.
func (m *Mutant) Replace(ctx context.Context, dir string) (map[string]string, error) {
	root, err := testenv.FindRoot()
	if err != nil {
		return nil, err
	}
	replace := map[string]string{}
	for line := range strings.Lines(string(m.patch)) {
		name, isTarget := strings.CutPrefix(strings.TrimSpace(line), "+++ b/")
		if !isTarget {
			continue
		}
		from, to := filepath.Join(root, name), filepath.Join(dir, name)
		replace[from] = to
		if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
			return nil, err
		}
		text, err := os.ReadFile(from)
		if errors.Is(err, os.ErrNotExist) { // the patch adds the file
			_ = os.Remove(to)
			continue
		}
		if err == nil {
			err = os.WriteFile(to, text, 0o600)
		}
		if err != nil {
			return nil, err
		}
	}
	command := exec.CommandContext(ctx, "git", "apply", "-")
	command.Dir, command.Stdin = dir, bytes.NewReader(m.patch)
	command.Env = append(os.Environ(), "GIT_CEILING_DIRECTORIES="+filepath.Dir(dir)) // dir may be in a repository
	if out, err := command.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("lab/mutants/patches/%s.patch does not apply to the product: %w\n%s", m.Name, err, out)
	}
	return replace, nil
}

// Overlay applies the patch below dir and returns the path of a file for go build -overlay.
func (m *Mutant) Overlay(ctx context.Context, dir string) (string, error) {
	replace, err := m.Replace(ctx, dir)
	if err != nil {
		return "", err
	}
	text, err := json.Marshal(map[string]map[string]string{"Replace": replace})
	if err != nil {
		return "", err
	}
	name := filepath.Join(dir, "overlay.json")
	return name, os.WriteFile(name, text, 0o600)
}
