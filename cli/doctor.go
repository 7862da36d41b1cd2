package cli

import (
	"context"
	"errors"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/posta-tasks/posta/auth"
	"github.com/posta-tasks/posta/cli/doctor"
	"github.com/posta-tasks/posta/cli/terminal"
	"github.com/posta-tasks/posta/client"
	"github.com/posta-tasks/posta/task"
)

// doctorFlags is what the command line says.
type doctorFlags struct {
	to      *target
	asked   bool // --to, POSTA_TO or --tls was given
	data    string
	drivers drivers
	listen  string
	files   auth.CertificateFiles
	tokens  string
	ready   bool
	json    bool
}

func newDoctor(out *terminal.Outside) *cobra.Command {
	f := &doctorFlags{}
	cmd := &cobra.Command{
		Use:     "doctor",
		GroupID: groupServe,
		Short:   "Find what is wrong with a system, and how to fix it",
		Long: `Checks a running system: whether it is ready, which node answers, whether a token is
missing, whether versions and clocks agree, which nodes there are and when they were
last seen, whether the address leads to all of them, as a balancer's should, and
whether tasks wait that no node can run.

With --data, --store, --blobs, --broker, --listen, --tls-cert, --tls-client-ca or
--token-file it checks what a node would be started with: directories and their free
space, the database with its schema, clock, settings and the rights of the role, the
bucket and the broker with what the user may do there, the address and which process
has it, the certificates and when they expire, the tokens, the limit of open files. In
the bucket and at the broker it creates something of its own and deletes it; it changes
nothing else. The running system is then checked only if --to or --tls is given too.

Each finding is a line: ok, warning or wrong, the part, and what was seen. Each warning
and each fault says how to fix it. The exit code is 0 if nothing is wrong, even with
warnings, 1 if something is, and 2 if the command line is wrong.

With --ready it only asks for /readyz, which needs no token: for the health check of a
container that has no shell.`,
		Example: `  posta doctor
  posta doctor --to 127.0.0.1:9001 --json
  posta doctor --data /var/lib/posta --token-file tokens
  posta doctor --listen 0.0.0.0:9001 --tls-cert node.pem --tls-key node.key --token-file tokens
  POSTA_STORE=postgres://posta:PASSWORD@db/posta POSTA_BROKER=amqps://posta:PASSWORD@mq/ posta doctor --blobs 's3://posta?endpoint=https://s3.internal'
  posta doctor --ready --to 127.0.0.1:9001`,
		Args: arguments(0, 0),
	}
	flags := cmd.Flags()
	flags.StringVar(&f.data, "data", "", "look at the data `directory` of posta up")
	flags.StringVar(&f.drivers.store, "store", "", "look at the store that the `URL` names")
	flags.StringVar(&f.drivers.blobs, "blobs", "", "look at the storage for blobs that the `URL` names")
	flags.StringVar(&f.drivers.broker, "broker", "", "look at the broker that the `URL` names")
	flags.StringVar(&f.listen, "listen", "", "look at the `address` on which a node would listen")
	flags.StringVar(&f.files.ClientCA, "tls-client-ca", "", "look at the `file` with the authorities of clients, in PEM")
	flags.StringVar(&f.tokens, "token-file", "", "look at the `file` with tokens")
	f.drivers.env = out.Lookup
	f.to = addTarget(out, cmd, "data", "store", "blobs", "broker", "listen", "tls-client-ca", "token-file")
	f.to.OwnFiles = func() bool { return !f.ready && !flags.Changed("to") }
	flags.Lookup("tls-cert").Usage = "look at the `file` with a certificate, in PEM; with --tls it is our own"
	flags.Lookup("tls-key").Usage = "look at the `file` with its key, in PEM"
	flags.BoolVar(&f.ready, "ready", false, "only ask whether the node takes new work")
	flags.BoolVar(&f.json, "json", false, "print one JSON object")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		f.asked = flags.Changed("to") || flags.Changed("tls")
		f.files.Certificate, f.files.Key = flags.Lookup("tls-cert").Value.String(), flags.Lookup("tls-key").Value.String()
		return runDoctor(cmd.Context(), out, f)
	}
	return cmd
}

// runDoctor looks at the running system, and at what a node would be started with.
func runDoctor(ctx context.Context, out *terminal.Outside, f *doctorFlags) error {
	system := doctor.System{Version: version(), Now: time.Now, Grace: task.LeaseRenew + time.Second}
	system.Dial = func() (*client.Client, error) { return f.to.Client(1, -1) }
	system.Web, system.Base = f.to.Web()
	system.Hint = func(err error) string { return classify(err).Hint }
	if f.ready {
		return f.ask(ctx, out, system)
	}
	checks, err := f.local()
	if err != nil {
		return err
	}
	if len(checks) == 0 || f.asked {
		checks = append(checks, system.Checks()...)
	}
	found := doctor.Run(ctx, checks)
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := doctor.Print(out.Results(), found, f.json); err != nil {
		return err
	}
	if !doctor.Sound(found) {
		return alreadyTold(exitFailed)
	}
	return nil
}

// local returns the checks of what a node would be started with; none when nothing is named.
func (f *doctorFlags) local() ([]doctor.Check, error) {
	var checks []doctor.Check
	if err := checkAddresses("listen", f.listen); err != nil {
		return nil, err
	}
	if err := checkPath("--data", f.data); err != nil {
		return nil, err
	}
	if f.data != "" {
		checks = append(checks, doctor.Directory("data", f.data))
		if file := strings.TrimPrefix(driversIn(f.data).store, "sqlite://"); exists(file) {
			checks = append(checks, doctor.File(file)[1:]...) // the directory stands above
		}
	}
	for _, part := range []struct {
		url string
		of  func(url string) ([]doctor.Check, error)
	}{
		{f.drivers.store, doctor.Store},
		{f.drivers.blobs, func(url string) ([]doctor.Check, error) { return doctor.Blobs(url, f.drivers.env) }},
		{f.drivers.broker, doctor.Broker},
	} {
		if part.url == "" {
			continue
		}
		more, err := part.of(part.url)
		if unknown := (*doctor.UnknownURLError)(nil); errors.As(err, &unknown) {
			return nil, misuse("allowed are "+unknown.Allowed, "no %s is known as %q", unknown.Kind, redacted(part.url))
		}
		if err != nil {
			return nil, err
		}
		checks = append(checks, more...)
	}
	if f.listen != "" {
		checks = append(checks, doctor.Address{Listen: f.listen, Asks: f.tokens != "" || f.files.ClientCA != ""}.Check())
	}
	checks = append(checks, doctor.Certificates(f.files, time.Now)...)
	if f.tokens != "" {
		checks = append(checks, doctor.Tokens(f.tokens))
	}
	if len(checks) > 0 {
		checks = append(checks, doctor.Descriptors(task.DefaultConnections))
	}
	return checks, nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// ask answers the one question of a health check.
func (f *doctorFlags) ask(ctx context.Context, out *terminal.Outside, system doctor.System) error {
	if err := system.PrintReady(ctx, out.Results(), f.json); err != nil {
		return fail(exitFailed, "`posta doctor --to "+f.to.Addr+"` looks at more", "not ready: %w", err)
	}
	return nil
}
