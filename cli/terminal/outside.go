// Package terminal is what the program has of the world around it, and how it looks there:
// the streams, the environment, numbers and lines for people, a line of progress.
package terminal

import (
	"fmt"
	"io"
	"runtime/debug"
	"strings"

	"golang.org/x/term"
)

// Outside is all that the program has of the world around it, so that a test can
// give it another one.
type Outside struct {
	Name   string   // the program's file, as it was called
	Args   []string // without the program's name
	Stdin  io.Reader
	Stdout io.Writer // results
	Stderr io.Writer // talk: logs, hints, progress
	Env    []string  // as os.Environ gives it
}

// Getenv returns a variable of the environment; empty when it is not set.
func (o *Outside) Getenv(name string) string {
	value := ""
	for _, entry := range o.Env {
		if key, text, found := strings.Cut(entry, "="); found && key == name {
			value = text // the last one counts, as in a shell
		}
	}
	return value
}

// Lookup returns a variable of the environment, and whether it is set to something.
func (o *Outside) Lookup(name string) (value string, found bool) {
	value = o.Getenv(name)
	return value, value != ""
}

// Self returns how the user calls the program: go run leaves no program to call.
func (o *Outside) Self() string {
	if !strings.Contains(o.Name, "go-build") {
		return "posta"
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "go run ."
	}
	return "go run ." + strings.TrimPrefix(info.Path, info.Main.Path)
}

// Talk writes a line for people. Arguments that are texts or errors may come from anywhere: each is shown
// as one printable line.
func (o *Outside) Talk(format string, args ...any) {
	shown := make([]any, len(args))
	for i, arg := range args {
		switch value := arg.(type) {
		case string:
			shown[i] = Line(value)
		case error:
			shown[i] = Line(value.Error())
		case fmt.Stringer:
			shown[i] = Line(value.String())
		default:
			shown[i] = arg
		}
	}
	o.Show(fmt.Sprintf(format, shown...))
}

// Show writes a line for people as it is, colours included: its parts must be printable.
func (o *Outside) Show(line string) { fmt.Fprintln(o.Stderr, line) }

// TalksToTerminal reports whether a person reads Stderr as it is written.
func (o *Outside) TalksToTerminal() bool {
	return isTerminal(o.Stderr)
}

// ResultsToTerminal reports whether a person reads Stdout as it is written.
func (o *Outside) ResultsToTerminal() bool { return isTerminal(o.Stdout) }

// ResultPaint returns the colours for Stdout.
func (o *Outside) ResultPaint() Painter {
	return Painter(o.ResultsToTerminal() && o.wantsColours())
}

func isTerminal(w io.Writer) bool {
	if screen, ok := w.(interface{ IsTerminal() bool }); ok { // of a test
		return screen.IsTerminal()
	}
	file := terminalFile(w)
	return file != nil && term.IsTerminal(int(file.Fd()))
}

// Colours reports whether Stderr is a terminal whose owner wants colours.
func (o *Outside) Colours() bool {
	return o.TalksToTerminal() && o.wantsColours()
}

func (o *Outside) wantsColours() bool {
	return o.Getenv("NO_COLOR") == "" && o.Getenv("TERM") != "dumb"
}

// Width returns the columns of the terminal, or 80.
func (o *Outside) Width() int {
	if file := terminalFile(o.Stderr); file != nil {
		if columns, _, err := term.GetSize(int(file.Fd())); err == nil && columns > 0 {
			return columns
		}
	}
	return 80
}
