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

// doctorFlags are the flags of posta doctor.
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
missing, whether versions and clocks agree, which nodes exist and when they were last
seen, whether the address leads to all of them, as that of a balancer should, and
whether there are tasks that no node can run.

With --data, --store, --blobs, --broker, --listen, --tls-cert, --tls-client-ca or
--token-file it checks the settings of a node before it starts: directories and their
free space; the schema, clock, settings and rights of the database; the rights of the
user in the bucket and at the broker; whether the address is free; when the certificates
expire; the tokens; and the limit of open files. It creates an object in the bucket, and
a queue and an exchange at the broker, and deletes them again. It changes nothing else.
The running system is then checked only if --to or --tls is set too.

Each finding is a line: ok, warning or wrong, the part, and what was found. Each warning
and each fault includes a fix. The exit code is 0 if nothing is wrong, even with
warnings, 1 if something is wrong, and 2 if the command line is wrong.

With --ready it only asks for /readyz, which needs no token. Use it for the health check
of a container without a shell.`,
		Example: `  posta doctor
  posta doctor --to 127.0.0.1:9001 --json
  posta doctor --data /var/lib/posta --token-file tokens
  posta doctor --listen 0.0.0.0:9001 --tls-cert node.pem --tls-key node.key --token-file tokens
  POSTA_STORE=postgres://posta:PASSWORD@db/posta POSTA_BROKER=amqps://posta:PASSWORD@mq/ posta doctor --blobs 's3://posta?endpoint=https://s3.internal'
  posta doctor --ready --to 127.0.0.1:9001`,
		Args: arguments(0, 0),
	}
	flags := cmd.Flags()
	flags.StringVar(&f.data, "data", "", "check the data `directory` of posta up")
	flags.StringVar(&f.drivers.store, "store", "", "check the store with this `URL`")
	flags.StringVar(&f.drivers.blobs, "blobs", "", "check the storage for blobs with this `URL`")
	flags.StringVar(&f.drivers.broker, "broker", "", "check the broker with this `URL`")
	flags.StringVar(&f.listen, "listen", "", "check the `address` on which a node would listen")
	flags.StringVar(&f.files.ClientCA, "tls-client-ca", "", "check the `file` with the authorities of clients, in PEM")
	flags.StringVar(&f.tokens, "token-file", "", "check the `file` with tokens")
	f.drivers.env = out.Lookup
	f.to = addTarget(out, cmd, "data", "store", "blobs", "broker", "listen", "tls-client-ca", "token-file")
	f.to.OwnFiles = func() bool { return !f.ready && !flags.Changed("to") }
	flags.Lookup("tls-cert").Usage = "check the `file` with a certificate, in PEM; with --tls, also present it as the client certificate"
	flags.Lookup("tls-key").Usage = "check the `file` with its key, in PEM"
	flags.BoolVar(&f.ready, "ready", false, "only check whether the node accepts new work")
	flags.BoolVar(&f.json, "json", false, "print one JSON object")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		f.asked = flags.Changed("to") || flags.Changed("tls")
		f.files.Certificate, f.files.Key = flags.Lookup("tls-cert").Value.String(), flags.Lookup("tls-key").Value.String()
		return runDoctor(cmd.Context(), out, f)
	}
	return cmd
}

// runDoctor examines the running system, or the settings with which a node would start, or both.
func runDoctor(ctx context.Context, out *terminal.Outside, f *doctorFlags) error {
	system := doctor.System{Version: version(), Now: time.Now, Grace: task.LeaseRenew + time.Second}
	system.Dial = func() (*client.Client, error) { return f.to.Client(1, -1) }
	system.Web, system.Base = f.to.Web()
	system.Hint = func(err error) string { return classify(err).Hint }
	if f.ready {
		return f.ask(ctx, out, system)
	}
	subject, err := f.subject()
	if err != nil {
		return err
	}
	if !subject.HasSettings() || f.asked {
		subject.System = system
	}
	found, err := doctor.Examine(ctx, subject)
	if unknown := (*doctor.UnknownURLError)(nil); errors.As(err, &unknown) {
		return misuse("allowed are "+unknown.Allowed, "no %s is known as %q", unknown.Kind, redacted(unknown.URL))
	}
	if err := errors.Join(err, ctx.Err()); err != nil {
		return err
	}
	if err := doctor.Print(out.Results(), found, f.json); err != nil {
		return err
	}
	if !doctor.Sound(found) {
		return alreadyPrinted(exitFailed)
	}
	return nil
}

// subject returns the settings that the flags name.
func (f *doctorFlags) subject() (doctor.Subject, error) {
	s := doctor.Subject{
		Data: f.data, Store: f.drivers.store, Blobs: f.drivers.blobs, Broker: f.drivers.broker, Env: f.drivers.env,
		Listen: f.listen, Certificates: f.files, Tokens: f.tokens, Now: time.Now,
	}
	if err := checkAddresses("listen", f.listen); err != nil {
		return s, err
	}
	if err := checkPath("--data", f.data); err != nil {
		return s, err
	}
	if f.data != "" {
		if file := strings.TrimPrefix(driversIn(f.data).store, "sqlite://"); exists(file) {
			s.DataFile = file
		}
	}
	return s, nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// ask asks whether the node is ready.
func (f *doctorFlags) ask(ctx context.Context, out *terminal.Outside, system doctor.System) error {
	if err := system.PrintReady(ctx, out.Results(), f.json); err != nil {
		return fail(exitFailed, "`posta doctor --to "+f.to.Addr+"` looks at more", "not ready: %w", err)
	}
	return nil
}
