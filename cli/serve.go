package cli

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/posta-tasks/posta/actions"
	"github.com/posta-tasks/posta/auth"
	"github.com/posta-tasks/posta/task"
)

// serveFlags are the flags of every verb that runs nodes.
type serveFlags struct {
	limits       task.Limits
	tokenFile    string
	masterFile   string
	cluster      string
	insecure     bool
	actions      []actions.Action
	actionsPath  string
	workers      []string
	workerCount  int
	allowedHosts []string
	allowOrigins []string
	secure       *serverTLS
	log          *logFlags
	heapLimit    sizeFlag
	cmd          *cobra.Command
}

// addServeFlags defines the flags. drainDelay is the default of --drain-delay.
func addServeFlags(cmd *cobra.Command, list []actions.Action, drainDelay time.Duration) *serveFlags {
	f := &serveFlags{actions: list, limits: task.DefaultLimits(), cmd: cmd, log: addLogFlags(cmd)}
	f.limits.DrainDelay = drainDelay
	flags := cmd.Flags()
	flags.StringVar(&f.tokenFile, "token-file", "", "the `file` with the tokens of clients: NAME TOKEN on each line")
	flags.StringVar(&f.masterFile, "master-key-file", "", "the `file` with the master secret, from which the keys of clients are derived; the same on all nodes. With it, clients need a key, a pass or a token")
	flags.StringVar(&f.cluster, "cluster", "posta", "the `name` of the system, which passes must have as their audience")
	flags.BoolVar(&f.insecure, "insecure", false, "admit every client on an address that other machines can reach, without tokens")
	flags.StringSliceVar(&f.allowedHosts, "allowed-hosts", nil, "the host `names` that HTTP clients may use besides the address; .example allows all names below it")
	flags.StringSliceVar(&f.allowOrigins, "allow-origin", nil, "the `origin` of web pages elsewhere that may use the HTTP API, such as https://app.example; may be given more than once")
	flags.StringArrayVar(&f.workers, "worker", nil, "a `command` that runs as a worker on a pipe and starts again when it ends; no shell runs it. May be given more than once")
	flags.IntVar(&f.workerCount, "worker-count", 1, "how many processes of each --worker run, up to 64")
	flags.Var(&f.heapLimit, "heap-limit", "bytes of memory above which the garbage collector works harder, like GOMEMLIMIT; 0 means the default; no effect if GOGC is set")
	flags.Lookup("heap-limit").DefValue = "half of the memory"
	f.secure = addServerTLS(flags)
	addLimits(flags, &f.limits)
	return f
}

// check reads the token file, and refuses limits that a node would understand differently than the user.
func (f *serveFlags) check() (*auth.Tokens, error) {
	if err := checkLimits(&f.limits, f.cmd.CommandPath()); err != nil {
		return nil, err
	}
	if f.tokenFile == "" {
		return nil, nil
	}
	tokens, err := auth.LoadTokens(f.tokenFile)
	if err != nil {
		return nil, fail(exitConfig, "a token file has a NAME and a TOKEN on each line, and only its owner and its group may read it", "%w", err)
	}
	return tokens, nil
}

// openKeys returns the ring of keys; nil if there is no master secret. ensure is the file that is made if --master-key-file
// is not given; then clients need no key. The caller calls stop after the nodes have ended.
func (f *serveFlags) openKeys(k *kept, ensure string, logger *slog.Logger) (ring *auth.Keyring, stop func(), err error) {
	const hint = "a master key file has at least 32 bytes, and only its owner and its group may read it"
	var master auth.Master
	switch {
	case f.masterFile != "" && k.store == nil:
		return nil, nil, fail(exitConfig, "say where keys are kept, for example --store sqlite://posta.db", "--master-key-file needs a store")
	case f.masterFile != "":
		master, err = auth.LoadMaster(f.masterFile)
	case ensure == "" || k.store == nil:
		return nil, func() {}, nil
	default:
		master, err = auth.EnsureMaster(ensure)
	}
	if err != nil {
		return nil, nil, fail(exitConfig, hint, "%w", err)
	}
	if ring, err = auth.NewKeyring(auth.KeyringConfig{Master: master, Store: k.store, Cluster: f.cluster, Required: f.masterFile != "", Logger: logger}); err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { ring.Run(ctx) })
	return ring, func() {
		cancel()
		running.Wait()
	}, nil
}

// ignoreHangup keeps SIGHUP from ending a server that has no file to read again, and logs each one. The caller calls
// stop, which waits for the goroutine.
func ignoreHangup(logger *slog.Logger) (stop func()) {
	hangups, stopping := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(hangups, syscall.SIGHUP)
	var watching sync.WaitGroup
	watching.Go(func() {
		for {
			select {
			case <-hangups:
				logger.Info("SIGHUP is ignored, since there is no actions file to read again")
			case <-stopping:
				return
			}
		}
	})
	return func() {
		signal.Stop(hangups)
		close(stopping)
		watching.Wait()
	}
}

// reachable reports whether other machines can connect to an address.
func reachable(listen string) (bool, error) {
	addr, err := net.ResolveTCPAddr("tcp", listen)
	if err != nil {
		return false, misuse("write it as HOST:PORT, for example 127.0.0.1:9000", "cannot listen on %q: %w", listen, err)
	}
	return !addr.IP.IsLoopback(), nil
}

// listenFailure explains why a server cannot listen on an address. flag is the flag with the address.
func listenFailure(err error, flag string) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fail(exitAddress, "another program listens there, perhaps another posta; choose another address with "+flag, "%w", err)
	case errors.Is(err, syscall.EADDRNOTAVAIL), errors.Is(err, syscall.EACCES):
		return fail(exitAddress, "choose an address of this machine, and a port that you may open, with "+flag, "%w", err)
	}
	return fail(exitConfig, "", "%w", err)
}
