package cli

import (
	"log/slog"
	"slices"
	"strings"

	"github.com/lmittmann/tint"
	"github.com/spf13/cobra"

	"github.com/posta-tasks/posta/cli/terminal"
)

// logFlags are the flags for the log of a server.
type logFlags struct {
	level  string
	format string
}

// addLogFlags defines the flags.
func addLogFlags(cmd *cobra.Command) *logFlags {
	f := &logFlags{}
	cmd.Flags().StringVar(&f.level, "log-level", "info", "the least important `level` that is logged: debug, info, warn, error")
	cmd.Flags().StringVar(&f.format, "log-format", "auto", "the `format` of the log on stderr: text, json, or auto (text on a terminal)")
	return f
}

// Pretty reports whether the log is for people.
func (f *logFlags) Pretty(out *terminal.Outside) bool {
	return f.format == "text" || f.format == "auto" && out.TalksToTerminal()
}

// TaskLevel returns the level of lines for single tasks. By default, a node does not log them.
func (f *logFlags) TaskLevel(out *terminal.Outside) slog.Level {
	if f.Pretty(out) {
		return slog.LevelInfo
	}
	return slog.LevelDebug
}

// Logger returns the logger for all parts of a server.
func (f *logFlags) Logger(out *terminal.Outside) (*slog.Logger, error) {
	if !slices.Contains([]string{"auto", "text", "json"}, f.format) {
		return nil, misuse("text, json and auto are allowed", "--log-format is %q", f.format)
	}
	var level slog.Level
	known := slices.Contains([]string{"debug", "info", "warn", "error"}, strings.ToLower(f.level))
	if err := level.UnmarshalText([]byte(f.level)); err != nil || !known {
		return nil, misuse("debug, info, warn and error are allowed", "--log-level is %q", f.level)
	}
	if f.Pretty(out) {
		return slog.New(tint.NewTextHandler(out.Stderr, &tint.Options{
			Level: level, TimeFormat: terminal.Clock, NoColor: !out.Colours(),
		})), nil
	}
	return slog.New(slog.NewJSONHandler(out.Logs(), &slog.HandlerOptions{Level: level})), nil
}
