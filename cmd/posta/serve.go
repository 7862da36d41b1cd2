package main

import (
	"errors"
	"net"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/posta-tasks/posta/auth"
	"github.com/posta-tasks/posta/cmd/posta/exit"
	"github.com/posta-tasks/posta/cmd/posta/option"
	"github.com/posta-tasks/posta/cmd/posta/secure"
	"github.com/posta-tasks/posta/task"
)

// serveFlags are what every verb that runs nodes has.
type serveFlags struct {
	limits       task.Limits
	tokenFile    string
	insecure     bool
	allowedHosts []string
	secure       *secure.Server
	log          *option.Log
	cmd          *cobra.Command
}

// addServeFlags defines them; drainDelay is the default of --drain-delay.
func addServeFlags(cmd *cobra.Command, drainDelay time.Duration) *serveFlags {
	f := &serveFlags{limits: task.DefaultLimits(), cmd: cmd, log: option.AddLog(cmd)}
	f.limits.DrainDelay = drainDelay
	flags := cmd.Flags()
	flags.StringVar(&f.tokenFile, "token-file", "", "the `file` with the tokens of those who may come in: NAME TOKEN on each line")
	flags.BoolVar(&f.insecure, "insecure", false, "let everybody in, on an address that other machines reach and without tokens")
	flags.StringSliceVar(&f.allowedHosts, "allowed-hosts", nil, "`names` under which HTTP clients may call, beside the address")
	f.secure = secure.AddServer(flags)
	for _, limit := range f.limits.Table() {
		addLimit(flags, limit)
	}
	return f
}

// addLimit defines the flag of one limit. Its default is shown as the limit's table
// has it, since some defaults depend on the machine.
func addLimit(flags *pflag.FlagSet, limit task.Limit) {
	switch value := limit.Value.(type) {
	case *time.Duration:
		flags.Var((*option.Seconds)(value), limit.Flag, limit.Help)
		return // the default of a duration is the same on every machine
	case *int:
		if strings.Contains(limit.Default, "iB") {
			flags.Var((*option.Size)(value), limit.Flag, limit.Help)
		} else {
			flags.IntVar(value, limit.Flag, *value, limit.Help)
		}
	}
	flags.Lookup(limit.Flag).DefValue = limit.Default
}

// check reads the token file and refuses limits that a node would take for others
// than were meant.
func (f *serveFlags) check() (*auth.Tokens, error) {
	full, err := f.limits.WithDefaults()
	if err != nil {
		return nil, exit.Misuse("`"+f.cmd.CommandPath()+" --help` lists the limits", "%w", err)
	}
	given, taken := f.limits.Table(), full.Table()
	for i := range given {
		if isZero(given[i]) && !isZero(taken[i]) {
			return nil, exit.Misuse("leave it out for "+given[i].Default, "--%s is 0, but it cannot be switched off", given[i].Flag)
		}
	}
	if f.tokenFile == "" {
		return nil, nil
	}
	tokens, err := auth.LoadTokens(f.tokenFile)
	if err != nil {
		return nil, exit.Fail(exit.Config, "a token file has a NAME and a TOKEN on each line, and only its owner and its group may read it", "%w", err)
	}
	return tokens, nil
}

func isZero(limit task.Limit) bool {
	switch value := limit.Value.(type) {
	case *int:
		return *value == 0
	case *time.Duration:
		return *value == 0
	}
	return false
}

// reachable tells whether other machines can reach an address to listen on.
func reachable(listen string) (bool, error) {
	addr, err := net.ResolveTCPAddr("tcp", listen)
	if err != nil {
		return false, exit.Misuse("write it as HOST:PORT, for example 127.0.0.1:9000", "cannot listen on %q: %w", listen, err)
	}
	return !addr.IP.IsLoopback(), nil
}

// listenFailure explains why a server cannot start on an address; flag names the
// flag that chose it.
func listenFailure(err error, flag string) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return exit.Fail(exit.Address, "another program listens there, perhaps another posta; choose another address with "+flag, "%w", err)
	case errors.Is(err, syscall.EADDRNOTAVAIL), errors.Is(err, syscall.EACCES):
		return exit.Fail(exit.Address, "choose an address of this machine, and a port that you may open, with "+flag, "%w", err)
	}
	return exit.Fail(exit.Config, "", "%w", err)
}
