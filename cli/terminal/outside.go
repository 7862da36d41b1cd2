// Package terminal is the access of the program to its standard streams and its environment, and formats texts for
// people on a terminal.
package terminal

import (
	"fmt"
	"io"
	"runtime/debug"
	"strings"

	"golang.org/x/term"
)

// Outside has everything around the program, so that a test can replace it.
type Outside struct {
	Name   string   // the path with which the program was called
	Args   []string // without the program's name
	Stdin  io.Reader
	Stdout io.Writer // results
	Stderr io.Writer // logs, hints and progress
	Env    []string  // as os.Environ gives it
}

// Getenv returns a variable of the environment, or "" if it is not set.
func (o *Outside) Getenv(name string) string {
	value := ""
	for _, entry := range o.Env {
		if key, text, found := strings.Cut(entry, "="); found && key == name {
			value = text // the last value counts, as in a shell
		}
	}
	return value
}

// Lookup returns a variable of the environment, and whether it is set and not empty.
func (o *Outside) Lookup(name string) (value string, found bool) {
	value = o.Getenv(name)
	return value, value != ""
}

// Self returns how the user calls the program. After go run there is no program to call.
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

// Talk prints a line for people to Stderr. Texts and errors in args may come from clients; each becomes one
// printable line.
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

// Show prints a line for people unchanged, with its colours. Its parts must be printable.
func (o *Outside) Show(line string) { fmt.Fprintln(o.Stderr, line) }

// TalksToTerminal reports whether Stderr is a terminal.
func (o *Outside) TalksToTerminal() bool {
	return isTerminal(o.Stderr)
}

// ResultsToTerminal reports whether Stdout is a terminal.
func (o *Outside) ResultsToTerminal() bool { return isTerminal(o.Stdout) }

// ResultPaint returns the colours for Stdout.
func (o *Outside) ResultPaint() Painter {
	return Painter(o.ResultsToTerminal() && o.wantsColours())
}

func isTerminal(w io.Writer) bool {
	if screen, ok := w.(interface{ IsTerminal() bool }); ok { // a test may pass such a stream
		return screen.IsTerminal()
	}
	file := terminalFile(w)
	return file != nil && term.IsTerminal(int(file.Fd()))
}

// Colours reports whether Stderr is a terminal and the user wants colours.
func (o *Outside) Colours() bool {
	return o.TalksToTerminal() && o.wantsColours()
}

func (o *Outside) wantsColours() bool {
	return o.Getenv("NO_COLOR") == "" && o.Getenv("TERM") != "dumb"
}

// Width returns the number of columns of the terminal, or 80.
func (o *Outside) Width() int {
	if file := terminalFile(o.Stderr); file != nil {
		if columns, _, err := term.GetSize(int(file.Fd())); err == nil && columns > 0 {
			return columns
		}
	}
	return 80
}
