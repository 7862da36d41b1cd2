package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"
)

// outside is all that the program has of the world around it, so that a test can
// give it another one.
type outside struct {
	Name   string   // the program's file, as it was called
	Args   []string // without the program's name
	Stdin  io.Reader
	Stdout io.Writer // results
	Stderr io.Writer // talk: logs, hints, progress
	Env    []string  // as os.Environ gives it
}

// getenv gives a variable of the environment; empty when it is not set.
func (o *outside) getenv(name string) string {
	value := ""
	for _, entry := range o.Env {
		if key, text, found := strings.Cut(entry, "="); found && key == name {
			value = text // the last one counts, as in a shell
		}
	}
	return value
}

// self is how the user calls the program: go run leaves no posta to call.
func (o *outside) self() string {
	if strings.Contains(o.Name, "go-build") {
		return "go run ./cmd/posta"
	}
	return "posta"
}

// talk writes a line for people.
func (o *outside) talk(format string, args ...any) {
	fmt.Fprintf(o.Stderr, format+"\n", args...)
}

// talksToTerminal tells whether a person reads Stderr as it is written.
func (o *outside) talksToTerminal() bool {
	file, ok := o.Stderr.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// colours tells whether Stderr is a terminal whose owner wants colours.
func (o *outside) colours() bool {
	return o.talksToTerminal() && o.getenv("NO_COLOR") == "" && o.getenv("TERM") != "dumb"
}

// width gives the columns of the terminal, or 80.
func (o *outside) width() int {
	if file, ok := o.Stderr.(*os.File); ok {
		if columns, _, err := term.GetSize(int(file.Fd())); err == nil && columns > 0 {
			return columns
		}
	}
	return 80
}
