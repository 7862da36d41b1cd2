package history

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
)

// The files of a run, in its directory.
const (
	aboutFile    = "run.json"
	clientsFile  = "clients.jsonl"
	JournalFile  = "journal.jsonl" // written by the actions
	happenedFile = "happened.jsonl"
	storeFile    = "store.jsonl"
)

// Run has everything about a run.
type Run struct {
	About    About
	Clients  []Event
	Journal  []Execution
	Happened []Occurrence
	Store    []Record
}

// Hash returns what an action of a run computes from a nonce.
func Hash(nonce string) string {
	sum := sha256.Sum256([]byte(nonce))
	return hex.EncodeToString(sum[:8])
}

// Log is a file to which lines are appended. It is safe for concurrent use. Each line is one write, so a process that is
// killed leaves whole lines.
type Log struct {
	mu   sync.Mutex // guards the fields below
	file *os.File
	err  error // the first one
}

// Append opens a file for appending. The caller closes it.
func Append(path string) (*Log, error) {
	file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	return &Log{file: file}, nil
}

// Add appends a value as a line of JSON. Close returns the error.
func (l *Log) Add(value any) {
	line, err := json.Marshal(value)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		_, err = l.file.Write(append(line, '\n'))
	}
	if l.err == nil {
		l.err = err
	}
}

// Close closes the file and returns the first error that occurred.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return errors.Join(l.err, l.file.Close())
}

// Logs are the files of a run that the chaos program writes itself.
type Logs struct {
	Clients, Happened, Store *Log
}

// Create opens the files of a run in a directory that exists.
func Create(dir string) (*Logs, error) {
	var logs Logs
	for name, log := range map[string]**Log{clientsFile: &logs.Clients, happenedFile: &logs.Happened, storeFile: &logs.Store} {
		opened, err := Append(filepath.Join(dir, name))
		if err != nil {
			return nil, err
		}
		*log = opened
	}
	return &logs, nil
}

// Close closes all files.
func (l *Logs) Close() error {
	return errors.Join(l.Clients.Close(), l.Happened.Close(), l.Store.Close())
}

// Describe writes the description of the run.
func Describe(dir string, about About) error {
	text, err := json.MarshalIndent(about, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, aboutFile), text, 0o600)
}

// Load reads a run from its directory.
func Load(dir string) (*Run, error) {
	r := &Run{}
	text, err := os.ReadFile(filepath.Join(dir, aboutFile))
	if err == nil {
		err = json.Unmarshal(text, &r.About)
	}
	if err != nil {
		return nil, err
	}
	clients, errClients := lines[Event](dir, clientsFile)
	journal, errJournal := lines[Execution](dir, JournalFile)
	happened, errHappened := lines[Occurrence](dir, happenedFile)
	records, errRecords := lines[Record](dir, storeFile)
	r.Clients, r.Journal, r.Happened, r.Store = clients, journal, happened, records
	return r, errors.Join(errClients, errJournal, errHappened, errRecords)
}

// lines reads a file. A missing file has no lines.
func lines[T any](dir, name string) ([]T, error) {
	file, err := os.Open(filepath.Join(dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var list []T
	in := bufio.NewReader(file)
	for number := 1; ; number++ {
		line, err := in.ReadBytes('\n')
		if len(bytes.TrimSpace(line)) == 0 {
			return list, nil
		}
		var value T
		if err := json.Unmarshal(line, &value); err != nil {
			return list, fmt.Errorf("%s, line %d: %w", name, number, err)
		}
		list = append(list, value)
		if err != nil {
			return list, nil
		}
	}
}
