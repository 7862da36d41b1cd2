// Package actionfile reads a file of actions that need no Go: programs (kind exec), HTTP
// endpoints (kind http), and workers on a pipe (kind worker). It finds everything that is wrong with a file at once, and reads
// the file again when it changes.
//
//	[action.thumbnail]
//	kind    = "exec"
//	command = ["thumb", "--stdin"]
//
//	[action.crm]
//	kind    = "http"
//	url     = "https://crm.example.com/hooks/posta"
//	secret  = "env:CRM_SECRET"
//
// Values are literal, except for secrets: env:NAME and file:PATH are looked up when the file
// is read. What they hold is never shown.
package actionfile

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/BurntSushi/toml"

	"github.com/posta-tasks/posta/actionfile/command"
	"github.com/posta-tasks/posta/actionfile/webhook"
	"github.com/posta-tasks/posta/actions"
	"github.com/posta-tasks/posta/worker/child"
)

const (
	// maxFile is the size of the largest file of actions in bytes, and maxSecret that of a file with a secret.
	maxFile   = 1 << 20
	maxSecret = 64 << 10
	// maxActions is the largest number of actions in a file.
	maxActions = 1000
)

// Config configures a File.
type Config struct {
	Path string
	// Lookup looks up a variable of the environment; nil means os.LookupEnv.
	Lookup func(name string) (value string, found bool)
	// Taken has the names of the other actions of the node. The file must not use them.
	Taken []string
	// Agent is the User-Agent of requests; "" means Posta.
	Agent string
}

// Definition is an action of a file without its secrets.
type Definition struct {
	Name    string
	Kind    string // exec, http or worker
	Line    int
	Target  string // the program, or the host of the endpoint
	Count   int    // of a worker: how many processes
	Slots   int    // 0: only the slots of the node limit it
	Timeout time.Duration
	Hash    string // hash of the definition, without the values of secrets
}

// Problem is an error in a file.
type Problem struct {
	Line int // 0: the whole file
	Text string
}

// Problems has all errors of a file, sorted by line.
type Problems struct {
	Path string
	List []Problem
}

// Error returns one line for each problem.
func (p *Problems) Error() string {
	var lines []string
	for _, problem := range p.List {
		at := p.Path
		if problem.Line > 0 {
			at = fmt.Sprintf("%s:%d", p.Path, problem.Line)
		}
		lines = append(lines, at+": "+problem.Text)
	}
	return strings.Join(lines, "\n")
}

// reading is a file that is being read.
type reading struct {
	config   Config
	dir      string // the directory of the file
	lines    map[string]int
	problems []Problem

	definitions []Definition
	commands    map[string]command.Command
	endpoints   map[string]webhook.Config
	workers     []child.Program
	// seen has the content of all files that the actions depend on, by path. dirs has their directories.
	seen map[string]string
	dirs map[string]bool
}

// read reads and checks a file. It returns all problems at once.
func read(config Config) (*reading, error) {
	if config.Lookup == nil {
		config.Lookup = os.LookupEnv
	}
	r := &reading{
		config: config, dir: filepath.Dir(config.Path), commands: map[string]command.Command{}, endpoints: map[string]webhook.Config{},
		seen: map[string]string{}, dirs: map[string]bool{},
	}
	if abs, err := filepath.Abs(r.dir); err == nil {
		r.dir = abs
	}
	text, err := r.readFile(config.Path, maxFile)
	if err != nil {
		var at *fs.PathError
		if errors.As(err, &at) { // Problems has the path already
			err = at.Err
		}
		return r, &Problems{config.Path, []Problem{{0, err.Error()}}}
	}
	r.parse(text)
	if len(r.problems) > 0 {
		slices.SortStableFunc(r.problems, func(a, b Problem) int { return a.Line - b.Line })
		return r, &Problems{config.Path, r.problems}
	}
	return r, nil
}

// readFile reads a file that only its owner and its group may change, and records its content in seen. Errors do
// not include the content.
func (r *reading) readFile(path string, most int64) (string, error) {
	if abs, err := filepath.Abs(path); err == nil {
		r.dirs[filepath.Dir(abs)] = true
	}
	r.seen[path] = "unreadable"
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	switch {
	case err != nil:
		return "", err
	case !info.Mode().IsRegular():
		return "", errors.New("it is not a regular file")
	case info.Mode().Perm()&0o002 != 0:
		return "", fmt.Errorf("everybody can change it (mode %#o): run chmod o-w %s", info.Mode().Perm(), path)
	case info.Size() > most:
		return "", fmt.Errorf("it has %d bytes, at most %d are allowed", info.Size(), most)
	}
	text, err := io.ReadAll(io.LimitReader(file, most))
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(text)
	r.seen[path] = hex.EncodeToString(sum[:])
	return string(text), nil
}

// problem adds a problem of a key, or of the table that should have the key.
func (r *reading) problem(key toml.Key, format string, args ...any) {
	line := 0
	for n := len(key); n > 0 && line == 0; n-- {
		line = r.lines[key[:n].String()]
	}
	r.problems = append(r.problems, Problem{line, fmt.Sprintf(format, args...)})
}

// parse reads the text of a file.
func (r *reading) parse(text string) {
	var content map[string]any
	if _, err := toml.Decode(text, &content); err != nil {
		line := 0
		var at toml.ParseError
		if errors.As(err, &at) {
			line, err = at.Position.Line, errors.New(at.Message)
		}
		r.problems = append(r.problems, Problem{line, "it is no TOML: " + err.Error()})
		return
	}
	r.lines = linesOf(text)
	for key := range content {
		if key != "action" {
			r.problem(toml.Key{key}, "unknown key %q: a file has tables [action.NAME]", key)
		}
	}
	tables, ok := content["action"].(map[string]any)
	if content["action"] != nil && !ok {
		r.problem(toml.Key{"action"}, "action is not a table: write [action.NAME]")
	}
	if len(tables) > maxActions {
		r.problem(toml.Key{"action"}, "it has %d actions, at most %d are allowed", len(tables), maxActions)
		return
	}
	for name, value := range tables {
		r.action(name, value)
	}
	slices.SortFunc(r.definitions, func(a, b Definition) int { return strings.Compare(a.Name, b.Name) })
}

// linesOf returns the line of each table and key of a TOML file. It may find keys inside strings and arrays of
// several lines. The first line of a key counts.
func linesOf(text string) map[string]int {
	lines := map[string]int{}
	var table toml.Key
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		head, _, isKey := strings.Cut(line, "=")
		if strings.HasPrefix(line, "[") {
			head, isKey = line, false
		} else if !isKey {
			continue
		} else {
			head += "= 0"
		}
		var ignored map[string]any
		meta, err := toml.NewDecoder(bytes.NewReader([]byte(head))).Decode(&ignored)
		if err != nil || len(meta.Keys()) == 0 {
			continue
		}
		key := meta.Keys()[len(meta.Keys())-1]
		if isKey {
			key = append(slices.Clone(table), key...)
		} else {
			table = key
		}
		if lines[key.String()] == 0 {
			lines[key.String()] = i + 1
		}
	}
	return lines
}

// programs returns the programs of the workers. Another version replaces all of them.
func (r *reading) programs(version int) []child.Program {
	list := slices.Clone(r.workers)
	for i := range list {
		list[i].Version = version
	}
	return list
}

// actions returns the actions of the file.
func (r *reading) actions(runner *command.Runner) (list []actions.Action, release func()) {
	var endpoints []*webhook.Endpoint
	for _, d := range r.definitions {
		action := actions.Action{Name: d.Name, Slow: true, Slots: d.Slots, Timeout: d.Timeout, Definition: d.Hash}
		if d.Kind == "worker" {
			continue // its processes say what they do
		}
		if c, ok := r.commands[d.Name]; ok {
			action.Append, action.Streams = runner.Action(c), true
		} else {
			endpoint := webhook.New(r.endpoints[d.Name])
			endpoints = append(endpoints, endpoint)
			action.Append = endpoint.Call
		}
		list = append(list, action)
	}
	return list, func() {
		for _, endpoint := range endpoints {
			endpoint.Close()
		}
	}
}
