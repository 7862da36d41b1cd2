package cli

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/posta-tasks/posta/actions"
	"github.com/posta-tasks/posta/auth"
	"github.com/posta-tasks/posta/balancer"
	"github.com/posta-tasks/posta/cli/terminal"
	"github.com/posta-tasks/posta/dashboard"
	"github.com/posta-tasks/posta/durable"
	"github.com/posta-tasks/posta/node"
	"github.com/posta-tasks/posta/worker"
)

// maxUpNodes is the largest number of nodes of one process.
const maxUpNodes = 32

// upFlags are the flags of posta up.
type upFlags struct {
	*serveFlags
	listen   string
	nodes    []string
	data     string
	queues   *queuesFlag
	defaults *defaultsFlag
}

func newUp(out *terminal.Outside, list []actions.Action) *cobra.Command {
	f := &upFlags{}
	cmd := &cobra.Command{
		Use:     "up",
		GroupID: groupServe,
		Short:   "Start everything in one process: a balancer and three nodes",
		Long: `Starts a balancer and three nodes in one process, for trying Posta and for development.
It prints a line for each task while there are few of them. Durable tasks are kept in
--data, so that a kill loses none of them; the next start continues with them. A --worker
starts once, and works for all nodes.

SIGINT (Ctrl-C) or SIGTERM drains: the nodes answer the requests that they have received,
the balancer still forwards the answers, and then all end with the exit code 0. A second
signal exits at once.

Each flag has an environment variable, named after it. The flag has precedence.`,
		Example: `  posta up
  posta up --listen 127.0.0.1:9100 --nodes 127.0.0.1:9101,127.0.0.1:9102
  posta up --data /var/lib/posta --queues 'mail=running:5,backlog:1e5;*'
  posta up --worker 'python3 w.py'
  posta up --log-format json`,
		Args: arguments(0, 0),
	}
	flags := cmd.Flags()
	flags.StringVar(&f.listen, "listen", "127.0.0.1:9000", "the `address` of the balancer; port 0 takes a free one")
	flags.StringSliceVar(&f.nodes, "nodes", []string{"127.0.0.1:9001", "127.0.0.1:9002", "127.0.0.1:9003"}, "the `addresses` of the nodes")
	flags.StringVar(&f.data, "data", defaultData, "the `directory` that keeps durable tasks; '' for none, and then enqueue is unavailable")
	f.queues, f.defaults = addQueues(flags), addDefaults(flags)
	f.serveFlags = addServeFlags(cmd, list, 0)
	flags.StringVar(&f.actionsPath, "actions", defaultActions, "the `file` with actions that are programs, HTTP endpoints or workers, if it exists; '' for none; see posta actions --help")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return up(cmd.Context(), out, f) }
	return withVariables(out, cmd)
}

// up opens all addresses, then serves until ctx ends.
func up(ctx context.Context, out *terminal.Outside, f *upFlags) error {
	out.LogWithoutBlocking()
	logger, err := f.log.Logger(out)
	if err != nil {
		return err
	}
	tokens, err := f.check()
	if err != nil {
		return err
	}
	if err := f.checkAddresses(tokens); err != nil {
		return err
	}
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
	programs, err := f.workerPrograms(out)
	if err != nil {
		return err
	}
	lines := newTaskLines(taskLinesConfig{Out: out, Logger: logger, Pretty: f.log.Pretty(out), Names: nodeNames(len(f.nodes))})
	defer lines.Close()
	drivers, err := dataDrivers(f.data, logger)
	if err != nil {
		return err
	}
	kept, err := drivers.open(ctx, config.Actions, *f.queues, logger)
	if err != nil {
		return err
	}
	kept.defaults = f.defaults.Queues
	defer kept.close(logger)
	ring, stopKeys, err := f.openKeys(kept, f.masterPath(), logger)
	if err != nil {
		return err
	}
	defer stopKeys()
	config.Keys = ring
	nodes, err := f.openNodes(config, lines, kept)
	if err != nil {
		return err
	}
	var addrs []string
	for _, n := range nodes {
		addrs = append(addrs, n.Addr().String())
	}
	front, err := balancer.New(balancer.Config{
		Listen: f.listen, Nodes: addrs, Logger: logger, NodeTLS: config.Certificates.Own(),
		CheckInterval: 2 * time.Second, // the nodes of one process die together, so frequent checks would find nothing
	})
	if err != nil {
		return listenFailure(err, "--listen")
	}
	stopWorkers := extra.startWorkers(ctx, f.serveFlags, programs, nodes[0], logger)
	defer stopWorkers()
	extra.watch(nodes...)
	f.welcome(out, logger, front.Addr().String(), addrs)
	return serveAll(ctx, nodes, front)
}

// masterPath returns the file with the master secret in the data directory; "" without one.
func (f *upFlags) masterPath() string {
	if f.data == "" {
		return ""
	}
	return filepath.Join(f.data, "master.key")
}

// checkAddresses refuses an address that admits everyone. The nodes cannot do this: behind the balancer, every
// client seems to be on this machine.
func (f *upFlags) checkAddresses(tokens *auth.Tokens) error {
	if err := checkAddresses("listen", f.listen); err != nil {
		return err
	}
	if err := checkAddresses("nodes", f.nodes...); err != nil {
		return err
	}
	if len(f.nodes) < 1 || len(f.nodes) > maxUpNodes {
		return misuse(fmt.Sprintf("1 to %d are allowed", maxUpNodes), "--nodes has %d addresses", len(f.nodes))
	}
	if f.secure.AsksClients() {
		return misuse("start posta node, and posta balancer run --node-tls with --node-tls-cert",
			"the balancer of posta up has no certificate for nodes that ask for one with --tls-client-ca")
	}
	open, err := reachable(f.listen)
	if err != nil {
		return err
	}
	if open && tokens == nil && f.masterFile == "" && !f.insecure {
		return fail(exitConfig, "--token-file FILE asks for a token, --master-key-file FILE for a key, --listen 127.0.0.1:PORT serves this machine only, --insecure admits every client",
			"other machines can reach %s, and nobody would be asked for a token", f.listen)
	}
	return nil
}

func nodeNames(count int) []string {
	names := make([]string, count)
	for i := range names {
		names[i] = fmt.Sprintf("node%d", i+1)
	}
	return names
}

// openNodes creates the nodes. Their ports are open when it returns.
func (f *upFlags) openNodes(config node.Config, lines *taskLines, kept *kept) ([]*node.Node, error) {
	nodes, hub := make([]*node.Node, 0, len(f.nodes)), durable.NewHub()
	config.Workers, config.History = worker.NewPool(), dashboard.NewHistory()
	for i, addr := range f.nodes {
		config.Durable = kept.engine(hub, i == 0)
		config.Name, config.Listen = lines.Names[i], strings.TrimSpace(addr)
		config.Observe, config.Summarize = lines.Observer(i), lines.Summarizer(i)
		n, err := node.New(config)
		if err != nil {
			return nil, listenFailure(err, "--nodes")
		}
		nodes = append(nodes, n)
	}
	return nodes, nil
}

// serveAll runs the nodes and the balancer. When ctx ends, the nodes drain while the balancer still forwards their
// answers. The balancer ends after them. If one fails, the others stop.
func serveAll(ctx context.Context, nodes []*node.Node, front *balancer.Balancer) error {
	frontCtx, stopFront := context.WithCancel(context.WithoutCancel(ctx))
	defer stopFront()
	ctx, stopNodes := context.WithCancel(ctx)
	defer stopNodes()
	var workers, all errgroup.Group
	for _, n := range nodes {
		workers.Go(func() error {
			defer stopNodes()
			return served(n.Run(ctx))
		})
	}
	all.Go(func() error {
		defer stopFront()
		return workers.Wait()
	})
	all.Go(func() error {
		defer stopNodes()
		return served(front.Run(frontCtx))
	})
	return all.Wait()
}

// welcome prints where to connect and what to try.
func (f *upFlags) welcome(out *terminal.Outside, logger *slog.Logger, addr string, nodes []string) {
	if !f.log.Pretty(out) {
		logger.Info("up", "addr", addr, "nodes", nodes, "data", f.data)
		return
	}
	to, kept := "", "Durable tasks are kept in "+f.data+"."
	if addr != "127.0.0.1:9000" {
		to = " --to " + addr
	}
	paint := terminal.Painter(out.Colours())
	host, port, _ := net.SplitHostPort(addr)
	posta := func(verb, rest string) string { return "    " + out.Self() + " " + verb + to + rest + "\n" }
	action, payload := "upper", `"hola"`
	try := posta("demo", "")
	if len(f.actions) > 0 && !slices.ContainsFunc(f.actions, func(a actions.Action) bool { return a.Name == action }) {
		action, payload, try = f.actions[0].Name, "null", ""
	}
	word := action + " " + strings.Trim(payload, `"`)
	try += posta("run", " "+word)
	if f.data == "" {
		kept = "There is no --data, so there are no durable tasks."
	} else {
		try += posta("enqueue", " "+word+" --wait")
	}
	out.Show(fmt.Sprintf(`
  %s on %s, in front of %s

  In another terminal:
%s    echo '{"id":1,"action":"%s","payload":%s}' | nc -N %s %s
    curl -d '{"action":"%s","payload":%s}' -H 'Content-Type: application/json' http://%s/v1/run

  %s Tasks show up below. Ctrl-C ends.
`, paint.Bold("Posta is up"), paint.Bold(addr), count(len(nodes), "node"), try, action, payload, host, port, action, payload, addr, kept))
}
