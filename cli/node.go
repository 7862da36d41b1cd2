package cli

import (
	"context"
	"errors"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/posta-tasks/posta/actions"
	"github.com/posta-tasks/posta/auth"
	"github.com/posta-tasks/posta/cli/terminal"
	"github.com/posta-tasks/posta/node"
	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

// nodeFlags are the flags of posta node.
type nodeFlags struct {
	*serveFlags
	listen        string
	name          string
	defaultOp     string
	drivers       drivers
	queues        *queuesFlag
	defaults      *defaultsFlag
	proxyProtocol bool
	peers         *peerFlags
}

func newNode(out *terminal.Outside, list []actions.Action) *cobra.Command {
	f := &nodeFlags{}
	cmd := &cobra.Command{
		Use:     "node",
		GroupID: groupServe,
		Short:   "Run one worker node",
		Long: `Runs one node. It accepts tasks as lines of JSON and over HTTP on one port, and runs
them in a bounded pool. Put several nodes behind a balancer; see ` + "`posta balancer --help`" + `.

With --worker it runs a program of yours, in any language, that reads tasks as lines from
its standard input and answers them on its standard output; see docs/workers.md.

With --store it accepts durable tasks as well (` + "`posta enqueue`" + `). A task that was answered
with "queued" is on stable storage. If the node is killed, another node with the store
runs the task. --queues sets which queues this node works. If the database does not
answer when the node starts, the node waits for it for up to a minute.

Nodes in different processes that share a PostgreSQL store pass direct runs on to each
other, if they say with --advertise where they can be reached: runs of actions that only
another node, or a worker of it, has, and others while their own slots are taken.

SIGTERM or SIGINT drains the node: /readyz answers 503, so that balancers choose other
nodes. After the drain delay the listener closes and clients are asked to disconnect.
Requests that were received are answered, unfinished durable tasks return to their queue,
and the exit code is 0. A second signal exits at once.

Each flag has an environment variable, named after it. The flag has precedence.`,
		Example: `  posta node
  posta node --listen 127.0.0.1:9002 --slots 16
  posta node --listen 0.0.0.0:9001 --token-file tokens
  posta node --listen 0.0.0.0:9001 --tls-cert node.pem --tls-key node.key --tls-client-ca clients.pem
  posta node --store sqlite://posta.db --blobs file://blobs
  AWS_ACCESS_KEY_ID=posta AWS_SECRET_ACCESS_KEY=… posta node --store sqlite://posta.db --blobs 's3://bodies?endpoint=https://s3.example.com'
  POSTA_STORE=postgres://posta:secret@db.internal/posta posta node --blobs file://blobs
  POSTA_STORE=postgres://posta:secret@db.internal/posta posta node --listen 0.0.0.0:9001 --advertise 10.0.0.7:9001 --token-file tokens --peer-token-file peer
  posta node --store sqlite://posta.db --queues 'mail=running:5,backlog:1e5;*' --default-op enqueue
  posta node --store sqlite://posta.db --actions actions.toml
  posta node --store sqlite://posta.db --worker 'python3 w.py' --worker-count 4
  POSTA_LISTEN=127.0.0.1:9003 POSTA_DRAIN_DELAY=0s posta node`,
		Args: arguments(0, 0),
	}
	flags := cmd.Flags()
	flags.StringVar(&f.listen, "listen", "127.0.0.1:9001", "the `address` to listen on; port 0 takes a free one")
	flags.StringVar(&f.name, "name", "", "the node's `name` in logs and replies (default the host's name and the port)")
	flags.StringVar(&f.defaultOp, "default-op", "run", "the `op` of lines without one: run or enqueue")
	flags.StringVar(&f.drivers.store, "store", "", "the `URL` of the store for durable tasks, such as sqlite://posta.db, or postgres://USER:PASSWORD@HOST/DATABASE, which nodes share; without one, enqueue is unavailable")
	flags.StringVar(&f.drivers.blobs, "blobs", "", "the `URL` of the storage for payloads and results of more than 64 KiB, file://DIR or s3://BUCKET?endpoint=URL; without one, they are refused")
	flags.StringVar(&f.drivers.broker, "broker", "", "the `URL` of the broker between nodes: amqp://USER:PASSWORD@HOST/VHOST, amqps://…, or memory:// for one process; without one, nodes claim from the store")
	f.queues, f.defaults = addQueues(flags), addDefaults(flags)
	flags.BoolVar(&f.proxyProtocol, "proxy-protocol", false, "read the client's address from the PROXY header that a balancer sends; then the header is required")
	f.peers = addPeers(flags)
	f.serveFlags = addServeFlags(cmd, list, task.DefaultDrainDelay)
	flags.StringVar(&f.actionsPath, "actions", "", "the `file` with actions that are programs, HTTP endpoints or workers; see posta actions --help")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return serveNode(cmd.Context(), out, f) }
	return withVariables(out, cmd)
}

// serveNode runs one node until ctx ends and it has drained.
func serveNode(ctx context.Context, out *terminal.Outside, f *nodeFlags) error {
	out.LogWithoutBlocking()
	logger, err := f.log.Logger(out)
	if err != nil {
		return err
	}
	if err := checkAddresses("listen", f.listen); err != nil {
		return err
	}
	tokens, err := f.check()
	if err != nil {
		return err
	}
	programs, err := f.workerPrograms(out)
	if err != nil {
		return err
	}
	lines := newTaskLines(taskLinesConfig{Out: out, Logger: logger, Level: f.log.TaskLevel(out), Pretty: f.log.Pretty(out), Names: []string{f.name}})
	defer lines.Close()
	extra, err := f.openActions(out, logger)
	if err != nil {
		return err
	}
	defer extra.close()
	f.collectLess(out)
	config, err := f.config(tokens, logger, extra)
	if err != nil {
		return err
	}
	config.Name, config.Listen = f.name, f.listen
	config.DefaultOp, config.ProxyProtocol = f.defaultOp, f.proxyProtocol
	config.Observe, config.Summarize = lines.Observer(0), lines.Summarizer(0)
	if config.Peers, err = f.peers.Config(f.drivers.shared()); err != nil {
		return err
	}
	f.drivers.env, f.drivers.place = out.Lookup, "--store"
	kept, err := f.drivers.open(ctx, config.Actions, *f.queues, logger)
	if err != nil {
		return served(err) // it was stopped while it waited, so it has nothing to drain
	}
	kept.defaults = f.defaults.Queues
	defer kept.close(logger)
	config.Durable = kept.engine(nil, true)
	ring, stopKeys, err := f.openKeys(kept, "", logger)
	if err != nil {
		return err
	}
	defer stopKeys()
	config.Keys = ring
	n, err := node.New(config)
	if err != nil {
		return listenFailure(err, "--listen")
	}
	lines.Rename(0, n.Name()) // the name may be a default
	stopWorkers := extra.startWorkers(ctx, f.serveFlags, programs, n, logger)
	defer stopWorkers()
	extra.watch(n)
	if kept.shared {
		warnOfNamesake(ctx, kept.store, n.Name(), logger)
	}
	return served(n.Run(ctx))
}

// warnOfNamesake warns if the store has a live node with the name of this one. Both would share one entry in the
// list of nodes. The other node may also have died seconds ago.
func warnOfNamesake(ctx context.Context, s store.Store, name string, logger *slog.Logger) {
	nodes, err := s.Nodes(ctx)
	if err != nil {
		return // the engine will report it
	}
	for _, n := range nodes {
		if n.Name == name {
			logger.Warn("the store has a live node of the same name; if that node still runs, start one of the two with another --name",
				"name", name, "pid", n.PID, "seen", n.Seen)
		}
	}
}

// config returns the configuration that all nodes of a process share.
func (f *serveFlags) config(tokens *auth.Tokens, logger *slog.Logger, extra *actionsFile) (node.Config, error) {
	certificates, err := f.secure.Load(logger)
	return node.Config{
		Version:      version(),
		Actions:      extra.list(),
		Limits:       f.limits,
		Tokens:       tokens,
		Certificates: certificates,
		Insecure:     f.insecure,
		AllowedHosts: f.allowedHosts,
		AllowOrigins: f.allowOrigins,
		Logger:       logger,
	}, err
}

// served returns nil for an error that only says that the server was asked to stop, since servers end that way.
func served(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}
