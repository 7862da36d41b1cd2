package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/posta-tasks/posta/balancer"
	"github.com/posta-tasks/posta/cli/terminal"
)

// balancerFlags are the flags of posta balancer.
type balancerFlags struct {
	file     balancer.ConfigFile
	insecure bool
	log      *logFlags
	secure   *clientTLS // TLS of the health checks
}

func newBalancer(out *terminal.Outside) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "balancer",
		GroupID: groupServe,
		Short:   "Print a configuration for Nginx or HAProxy, or run the built-in balancer",
		Long: `A balancer in front of the nodes distributes the connections over the nodes that are
ready. These commands print a configuration for Nginx or HAProxy. If you have neither,
use the built-in balancer.`,
		Example: `  posta balancer haproxy --node 10.0.0.1:9001 --node 10.0.0.2:9001 > posta.cfg
  posta balancer nginx --node 10.0.0.1:9001 --node 10.0.0.2:9001 > posta.conf
  posta balancer run --node 127.0.0.1:9001 --node 127.0.0.1:9002`,
		Args: noSuchVerb,

		SuggestionsMinimumDistance: 2,
		DisableFlagsInUseLine:      true,

		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newBalancerNginx(out), newBalancerHAProxy(out), newBalancerRun(out))
	return cmd
}

// addTo defines the flags that all balancers have.
func (f *balancerFlags) addTo(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.file.Listen, "listen", balancer.DefaultListen, "the `address` for clients")
	flags.StringSliceVar(&f.file.Nodes, "node", nil, "the `address` of a node; may be repeated")
	flags.BoolVar(&f.file.ProxyProtocol, "proxy-protocol", false, "send the client's address to the nodes, which need --proxy-protocol too")
	flags.IntVar(&f.file.MaxConnections, "max-connections", balancer.DefaultMaxConnections, "the `number` of open client connections")
}

// check requires the flag that has no default, and refuses URLs.
func (f *balancerFlags) check() error {
	if err := checkAddresses("listen", f.file.Listen); err != nil {
		return err
	}
	if err := checkAddresses("node", f.file.Nodes...); err != nil {
		return err
	}
	if len(f.file.Nodes) == 0 {
		return misuse("--node 127.0.0.1:9001, once for each node", "a balancer needs nodes")
	}
	return nil
}

func newBalancerNginx(out *terminal.Outside) *cobra.Command {
	f := &balancerFlags{}
	cmd := &cobra.Command{
		Use:   "nginx",
		Short: "Print a configuration for Nginx, with its stream module",
		Example: `  posta balancer nginx --node 127.0.0.1:9001 --node 127.0.0.1:9002 > posta.conf
  nginx -c $PWD/posta.conf`,
		Args: arguments(0, 0),
		RunE: func(*cobra.Command, []string) error {
			return f.print(out, balancer.Nginx, "write it to a file: > posta.conf; then start it with: nginx -c $PWD/posta.conf")
		},
	}
	f.addTo(cmd)
	cmd.Flags().StringVar(&f.file.PidFile, "pid-file", "", "the `path` of the process id (default /run/posta-nginx.pid)")
	cmd.Flags().StringVar(&f.file.Module, "module", "", "the `path` of ngx_stream_module.so, where the distribution does not load it")
	return withVariables(out, cmd)
}

func newBalancerHAProxy(out *terminal.Outside) *cobra.Command {
	f := &balancerFlags{}
	cmd := &cobra.Command{
		Use:   "haproxy",
		Short: "Print a configuration for HAProxy",
		Example: `  posta balancer haproxy --node 127.0.0.1:9001 --node 127.0.0.1:9002 > posta.cfg
  haproxy -W -f posta.cfg`,
		Args: arguments(0, 0),
		RunE: func(*cobra.Command, []string) error {
			return f.print(out, balancer.HAProxy, "write it to a file: > posta.cfg; then start it with: haproxy -W -f posta.cfg")
		},
	}
	f.addTo(cmd)
	cmd.Flags().StringVar(&f.file.PidFile, "pid-file", "", "the `path` of the process id (default none)")
	cmd.Flags().StringVar(&f.file.AdminSocket, "admin-socket", "", "the `path` of the runtime socket (default none)")
	cmd.Flags().BoolVar(&f.file.NodeTLS, "node-tls", false, "check nodes inside TLS, and verify their certificates")
	cmd.Flags().StringVar(&f.file.NodeCA, "node-tls-ca", "", "with --node-tls: the `path` of the authorities of the nodes' certificates, in PEM (default the system's)")
	cmd.Flags().StringVar(&f.file.NodeCert, "node-tls-cert", "", "with --node-tls: the `path` of a certificate for the checks and its key, in one file in PEM (default none)")
	return withVariables(out, cmd)
}

// print writes a configuration to stdout, and instructions to stderr.
func (f *balancerFlags) print(out *terminal.Outside, render func(balancer.ConfigFile) (string, error), hint string) error {
	if err := f.check(); err != nil {
		return err
	}
	text, err := render(f.file)
	if err != nil {
		return misuse("", "%w", err)
	}
	if _, err := fmt.Fprint(out.Stdout, text); err != nil {
		return err
	}
	out.Talk("posta: hint: %s", hint)
	if open, err := reachable(f.file.Listen); err == nil && open {
		out.Talk("posta: warning: other machines can reach %s, and the nodes take clients of the balancer for clients of this machine", f.file.Listen)
		out.Talk("posta: hint: start the nodes with --token-file or --tls-client-ca; --listen 127.0.0.1:PORT serves this machine only")
	}
	if f.file.ProxyProtocol {
		out.Talk("posta: hint: start the nodes with --proxy-protocol")
	}
	return nil
}

func newBalancerRun(out *terminal.Outside) *cobra.Command {
	f := &balancerFlags{}
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run the built-in balancer",
		Long: `Runs the built-in balancer. Each connection goes to the ready node with the fewest
connections. The balancer checks /readyz of each node. A node that drains gets no new
connections and keeps its open ones.

SIGTERM or SIGINT lets open connections finish, and the exit code is 0. A second
signal exits at once.`,
		Example: `  posta balancer run --node 127.0.0.1:9001 --node 127.0.0.1:9002
  POSTA_NODE=10.0.0.1:9001,10.0.0.2:9001 posta balancer run --listen 127.0.0.1:9000`,
		Args: arguments(0, 0),
	}
	f.addTo(cmd)
	cmd.Flags().BoolVar(&f.insecure, "insecure", false, "let other machines connect although the nodes on loopback treat them as local clients")
	f.secure, _ = addClientTLS(cmd.Flags(), "node-", "nodes when they are checked")
	f.log = addLogFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return f.run(cmd.Context(), out) }
	return withVariables(out, cmd)
}

// run balances until ctx has ended and all connections are closed.
func (f *balancerFlags) run(ctx context.Context, out *terminal.Outside) error {
	out.LogWithoutBlocking()
	logger, err := f.log.Logger(out)
	if err != nil {
		return err
	}
	if err := f.check(); err != nil {
		return err
	}
	if err := f.checkOpen(); err != nil {
		return err
	}
	nodeTLS, err := f.secure.Config()
	if err != nil {
		return err
	}
	b, err := balancer.New(balancer.Config{
		Listen: f.file.Listen, Nodes: f.file.Nodes, ProxyProtocol: f.file.ProxyProtocol, NodeTLS: nodeTLS,
		MaxConnections: f.file.MaxConnections, Logger: logger,
	})
	if err != nil {
		return listenFailure(err, "--listen")
	}
	defer ignoreHangup(logger)()
	logger.Info("balancer serves", "addr", b.Addr().String(), "nodes", f.file.Nodes)
	return served(b.Run(ctx))
}

// checkOpen refuses to make nodes on loopback reachable for other machines. Such nodes may require no token, and
// all clients of the balancer seem to be on this machine.
func (f *balancerFlags) checkOpen() error {
	open, err := reachable(f.file.Listen)
	if err != nil || !open || f.insecure {
		return err
	}
	for _, addr := range f.file.Nodes {
		if far, err := reachable(addr); err == nil && !far {
			return fail(exitConfig, "--insecure says that it is meant, for example because the nodes have a --token-file; --listen 127.0.0.1:PORT serves this machine only",
				"other machines can reach %s, and the node %s would treat them as local clients", f.file.Listen, addr)
		}
	}
	return nil
}
