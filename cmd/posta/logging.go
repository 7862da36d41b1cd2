package main

import (
	"log/slog"
	"slices"
	"strings"

	"github.com/lmittmann/tint"
	"github.com/spf13/cobra"
)

// clock is how people read the time of a log line.
const clock = "15:04:05.000"

// logFlags say how a server logs.
type logFlags struct {
	level  string
	format string
}

func addLogFlags(cmd *cobra.Command) *logFlags {
	f := &logFlags{}
	cmd.Flags().StringVar(&f.level, "log-level", "info", "the least important `level` that is logged: debug, info, warn, error")
	cmd.Flags().StringVar(&f.format, "log-format", "auto", "the `format` of the log on stderr: text, json, or auto (text on a terminal)")
	return f
}

// pretty tells whether the log is for people.
func (f *logFlags) pretty(out *outside) bool {
	return f.format == "text" || f.format == "auto" && out.talksToTerminal()
}

// logger makes the logger that all parts of a server are handed.
func (f *logFlags) logger(out *outside) (*slog.Logger, error) {
	if !slices.Contains([]string{"auto", "text", "json"}, f.format) {
		return nil, misuse("text, json and auto are allowed", "--log-format is %q", f.format)
	}
	var level slog.Level
	known := slices.Contains([]string{"debug", "info", "warn", "error"}, strings.ToLower(f.level))
	if err := level.UnmarshalText([]byte(f.level)); err != nil || !known {
		return nil, misuse("debug, info, warn and error are allowed", "--log-level is %q", f.level)
	}
	if f.pretty(out) {
		return slog.New(tint.NewTextHandler(out.Stderr, &tint.Options{
			Level: level, TimeFormat: clock, NoColor: !out.colours(),
		})), nil
	}
	return slog.New(slog.NewJSONHandler(out.Stderr, &slog.HandlerOptions{Level: level})), nil
}
