package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/pflag"

	"github.com/posta-tasks/posta/actions"
	"github.com/posta-tasks/posta/blob"
	"github.com/posta-tasks/posta/blob/s3"
	"github.com/posta-tasks/posta/broker"
	"github.com/posta-tasks/posta/broker/rabbitmq"
	"github.com/posta-tasks/posta/durable"
	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/store/postgres"
	"github.com/posta-tasks/posta/store/sqlite"
	"github.com/posta-tasks/posta/task"
)

// drivers has the URLs of the store, the blob storage and the broker. Only this file knows which drivers exist:
// each is a case of a switch below.
type drivers struct {
	store  string // empty: no store, and enqueue is unavailable
	blobs  string // empty: large bodies are refused
	broker string // empty: nodes claim from the store
	// place is the flag that sets the store, for hints: --store or --data.
	place string

	// env looks up a variable of the environment. Secrets do not belong in URLs.
	env func(name string) (value string, found bool)
}

// kept has the opened drivers. The zero value has none.
type kept struct {
	store  store.Store
	shared bool // other processes may have the store open
	blobs  blob.Blobs
	broker broker.Broker // nil: there is only one process, or nodes claim from the store
	rules  map[string]durable.QueueRule
	// defaults has the options that an enqueue gets if it does not set them, by queue.
	defaults map[string]task.Defaults
}

// shared reports whether other processes may have the store open.
func (d drivers) shared() bool { return d.store != "" && !strings.HasPrefix(d.store, "sqlite://") }

// open opens all drivers, or none. The caller closes them. own has the actions of the nodes at their start; nil
// means the built-in ones.
func (d drivers) open(ctx context.Context, own []actions.Action, queues queuesFlag, logger *slog.Logger) (*kept, error) {
	k := &kept{rules: rulesOf(queues)}
	if d.store == "" {
		return k, d.needless(queues)
	}
	k.shared = d.shared()
	var err error
	if d.blobs != "" {
		k.blobs, err = d.openBlobs()
	}
	if err == nil {
		k.broker, err = d.openBroker(k.shared, logger)
	}
	if err == nil { // the store last: it may have to wait, and errors of the others must show at once
		k.store, err = openStore(ctx, d.store, d.place, own, limitsOf(queues), logger)
	}
	if err != nil {
		k.close(logger)
		return nil, err
	}
	return k, nil
}

// needless refuses flags that have no effect without a store.
func (d drivers) needless(queues queuesFlag) error {
	for flag, value := range map[string]string{"--blobs": d.blobs, "--broker": d.broker, "--queues": strings.TrimPrefix(queues.String(), "*")} {
		if value != "" {
			hint := "say where durable tasks are kept, for example --store sqlite://posta.db"
			if d.place == "--data" {
				hint = "name a directory for durable tasks with --data, or leave out " + flag
			}
			return fail(exitConfig, hint,
				"%s is for durable tasks, and there is no store for them", flag)
		}
	}
	return nil
}

// openStore opens the store that a URL names. from is how the command line says so. own are the actions of the nodes.
func openStore(ctx context.Context, url, from string, own []actions.Action, limits store.Limits, logger *slog.Logger) (store.Store, error) {
	scheme, place, _ := strings.Cut(url, "://")
	switch {
	case scheme == "sqlite" && place != "":
		return openFile(ctx, place, from, own, limits, logger)
	case (scheme == "postgres" || scheme == "postgresql") && place != "":
		return openDatabase(ctx, url, limits, logger)
	default:
		return nil, fail(exitConfig, "allowed is sqlite://FILE, such as sqlite://posta.db, or postgres://USER:PASSWORD@HOST/DATABASE",
			"no store is known as %q", redacted(url))
	}
}

// openDatabase opens a store that other processes may have open too. If it does not answer, openDatabase waits for
// it. Tasks that run stay with their nodes until their leases end.
func openDatabase(ctx context.Context, url string, limits store.Limits, logger *slog.Logger) (store.Store, error) {
	var s *postgres.Store
	err := openInTime(ctx, startPart{Name: "the store", Passes: postgres.Away, Logger: logger, Open: func(ctx context.Context) (err error) {
		s, err = postgres.Open(ctx, postgres.Config{URL: url, Limits: limits, Logger: logger})
		return err
	}})
	if err == nil {
		return s, nil
	}
	if says, fix := postgres.Explain(err); says != "" {
		return nil, fail(startCode(err), fix, "cannot open the store: %s: %w", says, err)
	}
	return nil, fail(startCode(err), "`posta doctor` says more, and how to fix it", "cannot open the store: %w", err)
}

// openFile opens a store in a file that only this process uses.
func openFile(ctx context.Context, path, from string, own []actions.Action, limits store.Limits, logger *slog.Logger) (store.Store, error) {
	s, err := sqlite.Open(sqlite.Config{Path: path, Limits: limits, Logger: logger})
	if err != nil {
		return nil, fail(exitConfig, fileHint(err, path, "with "+from), "cannot open the store: %w", err)
	}
	// Attempts of the nodes' own actions died with another process. Those of other actions run on workers, which may
	// still be alive: they come back and keep their tasks, or the leases end.
	names := []string{}
	for _, a := range orBuiltin(own) {
		names = append(names, a.Name)
	}
	found, err := s.Recover(ctx, "", names)
	if err != nil {
		return nil, errors.Join(ctx.Err(), err, s.Close())
	}
	if queued, ended := len(found.Reaped), len(found.Crashed)+len(found.Cancelled); queued+ended > 0 {
		logger.Warn("the tasks of a process that died are taken over", "queued", queued, "ended", ended)
	}
	return s, nil
}

// fileHint returns how to fix that the file of a store cannot be opened. where says how to choose another file.
func fileHint(err error, path, where string) string {
	switch {
	case errors.Is(err, syscall.EWOULDBLOCK):
		return "stop the process that has it, or name another place " + where
	case errors.Is(err, fs.ErrNotExist):
		return "make the directory " + filepath.Dir(path) + ", or name another place " + where
	case errors.Is(err, fs.ErrPermission):
		return "this user must be able to write to " + path + " and to its directory"
	}
	return "`posta doctor --store sqlite://" + path + "` says more"
}

// openBlobs opens the storage of large bodies.
func (d drivers) openBlobs() (blob.Blobs, error) {
	scheme, place, _ := strings.Cut(d.blobs, "://")
	switch {
	case scheme == "file" && place != "":
		dir, err := blob.OpenDir(place)
		if err != nil {
			return nil, fail(exitConfig, "this user must be able to write to "+place, "cannot open the storage for blobs: %w", err)
		}
		return dir, nil
	case scheme == "s3":
		return d.openBucket()
	default:
		return nil, fail(exitConfig, "allowed are file://DIR, such as file://blobs, and s3://BUCKET?endpoint=URL",
			"no storage for blobs is known as %q", redacted(d.blobs))
	}
}

// openBucket opens a bucket of an S3 server, which need not answer now.
func (d drivers) openBucket() (blob.Blobs, error) {
	config, err := s3.ParseURL(d.blobs)
	if err == nil {
		config.Credentials = s3.EnvironmentKeys(d.env)
		config.Region = cmp.Or(config.Region, s3.EnvironmentRegion(d.env))
		var bucket *s3.Blobs
		if bucket, err = s3.Open(config); err == nil {
			return bucket, nil
		}
	}
	return nil, fail(exitConfig, "write s3://BUCKET/PREFIX?endpoint=http://HOST:PORT; the keys are AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment",
		"cannot open the storage for blobs: %w", err)
}

// openBroker opens the broker between processes, which need not answer now. Within one process none is opened: its
// nodes share a durable.Hub.
func (d drivers) openBroker(shared bool, logger *slog.Logger) (broker.Broker, error) {
	scheme, _, _ := strings.Cut(d.broker, "://")
	switch {
	case d.broker == "" || d.broker == "memory://":
		return nil, nil
	case scheme != "amqp" && scheme != "amqps":
		return nil, fail(exitConfig, "allowed are memory://, the broker of one process, and amqp://USER@HOST/VHOST or amqps://…",
			"no broker is known as %q", redacted(d.broker))
	case !shared:
		return nil, fail(exitConfig, "nodes that share a broker share a store, such as --store postgres://…; one process needs no --broker",
			"a broker between processes has no use for a store that one process has to itself")
	}
	b, err := rabbitmq.Open(rabbitmq.Config{URL: d.broker, Logger: logger})
	if err != nil {
		return nil, fail(exitConfig, "write amqp://USER:PASSWORD@HOST:PORT/VHOST into POSTA_BROKER, or add ?password-file=FILE", "--broker: %w", err)
	}
	return b, nil
}

// dataDrivers returns the drivers of a data directory, which it creates if necessary. Without a name there are
// none.
func dataDrivers(dir string, logger *slog.Logger) (drivers, error) {
	if dir == "" {
		return drivers{place: "--data"}, nil
	}
	if err := checkPath("--data", dir); err != nil {
		return drivers{}, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return drivers{}, fail(exitConfig, "--data names a directory for durable tasks that may be written to; with --data '' there are none",
			"cannot make the data directory: %w", err)
	}
	if info, err := os.Stat(dir); err == nil && info.Mode().Perm()&0o077 != 0 {
		logger.Warn("other users of this machine may look into the data directory; chmod 700 keeps them out",
			"dir", dir, "mode", fmt.Sprintf("%04o", info.Mode().Perm()))
	}
	return driversIn(dir), nil
}

// defaultData is the data directory of posta up.
const defaultData = "posta-data"

// driversIn returns the layout of a data directory.
func driversIn(dir string) drivers {
	return drivers{place: "--data", store: "sqlite://" + filepath.Join(dir, "posta.db"), blobs: "file://" + filepath.Join(dir, "blobs")}
}

// backupStore copies a store that other processes may have open into a file, and returns its size.
func backupStore(ctx context.Context, from, to string) (int64, error) {
	scheme, place, _ := strings.Cut(from, "://")
	target := strings.TrimPrefix(to, "sqlite://")
	if scheme != "sqlite" || place == "" {
		return 0, misuse("sqlite://FILE is copied; for PostgreSQL there is pg_dump", "no backup is made of %q", redacted(from))
	}
	if err := sqlite.Backup(ctx, place, target); err != nil {
		code := exitFailed
		if errors.Is(err, fs.ErrNotExist) {
			code = exitConfig
		}
		return 0, fail(code, "--data names the directory of a posta up, --store the store of a posta node", "%w", err)
	}
	info, err := os.Stat(target)
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// backupBlobs copies blobs into a directory, and returns their number and size.
func backupBlobs(ctx context.Context, from, to string) (int, int64, error) {
	scheme, place, _ := strings.Cut(from, "://")
	if scheme != "file" || place == "" {
		return 0, 0, misuse("file://DIR is copied; S3 servers have tools of their own", "no backup is made of %q", redacted(from))
	}
	if err := blobsThere(from, "--blobs names where the blobs are"); err != nil {
		return 0, 0, err
	}
	source, err := blob.OpenDir(place)
	if err != nil {
		return 0, 0, err
	}
	defer source.Close()
	target, err := blob.OpenDir(strings.TrimPrefix(to, "file://"))
	if err != nil {
		return 0, 0, err
	}
	defer target.Close()
	return source.Backup(ctx, target)
}

// engine returns the configuration with which a node of this process works durable tasks; nil without a store. Only
// the first node runs suspects.
func (k *kept) engine(hub *durable.Hub, first bool) *durable.Config {
	if k.store == nil {
		return nil
	}
	return &durable.Config{
		Store: k.store, Shared: k.shared, Broker: k.broker, Blobs: k.blobs, Queues: k.rules, Defaults: k.defaults, Hub: hub, RunsSuspects: first,
	}
}

// close closes all drivers. The nodes must have ended.
func (k *kept) close(logger *slog.Logger) {
	var errs []error
	if k.broker != nil {
		errs = append(errs, k.broker.Close())
	}
	if k.store != nil {
		errs = append(errs, k.store.Close())
	}
	if k.blobs != nil {
		errs = append(errs, k.blobs.Close())
	}
	if err := errors.Join(errs...); err != nil {
		logger.Error("the store, the broker or blob storage was not closed cleanly", "error", err)
	}
}

// addQueues defines the flag --queues.
func addQueues(flags *pflag.FlagSet) *queuesFlag {
	queues := anyQueue()
	flags.Var(&queues, "queues", "the `rules` for queues, NAME=running:N,backlog:N, separated by semicolons: which queues to work, how many of their tasks run at once on a node, and how many may be unfinished; * is every queue that is not named")
	return &queues
}

// addDefaults defines the flag --defaults.
func addDefaults(flags *pflag.FlagSet) *defaultsFlag {
	defaults := &defaultsFlag{}
	flags.Var(defaults, "defaults", "the defaults of an enqueue by queue, `NAME=KEY:VALUE`,KEY:VALUE, separated by semicolons; KEY is max_attempts, timeout, backoff, backoff_max, keep or keep_failed; * is every queue without a value of its own")
	return defaults
}

// rulesOf returns the rules for the engine; nil means every queue without limits.
func rulesOf(queues queuesFlag) map[string]durable.QueueRule {
	rules := map[string]durable.QueueRule{}
	for name, rule := range queues.Rules {
		rules[name] = durable.QueueRule{Running: rule.Running}
	}
	if maps.Equal(rules, map[string]durable.QueueRule{"*": {}}) {
		return nil
	}
	return rules
}

// limitsOf returns the limits for the store.
func limitsOf(queues queuesFlag) store.Limits {
	limits := store.Limits{Backlogs: map[string]int{}}
	for name, rule := range queues.Rules {
		switch {
		case name == "*":
			limits.Backlog = rule.Backlog
		case rule.Backlog > 0:
			limits.Backlogs[name] = rule.Backlog
		}
	}
	return limits
}

// openSource opens the store that tasks are copied from, which must exist.
func openSource(ctx context.Context, url string) (*kept, error) {
	if path, isFile := strings.CutPrefix(url, "sqlite://"); isFile {
		if _, err := os.Stat(path); err != nil {
			return nil, fail(exitConfig, "FROM is the store of posta node, or FILE posta.db in the data directory of posta up", "%w", err)
		}
	}
	return openCopied(ctx, url)
}

// blobsThere refuses to read a directory of blobs that does not exist. To open it would create it.
func blobsThere(url, hint string) error {
	if path, isFile := strings.CutPrefix(url, "file://"); isFile {
		if _, err := os.Stat(path); err != nil {
			return fail(exitConfig, hint, "%w", err)
		}
	}
	return nil
}

// openTarget opens the store that tasks are copied to, and creates the directory of a file.
func openTarget(ctx context.Context, url string) (*kept, error) {
	if path, isFile := strings.CutPrefix(url, "sqlite://"); isFile && path != "" {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return nil, fail(exitConfig, "TO is a place where a file can be made", "%w", err)
		}
	}
	return openCopied(ctx, url)
}

// copyTimeout is how long one step of a copy may take.
const copyTimeout = time.Minute

// openCopied opens a store without changing it: tasks that ran when their node died are not queued again.
func openCopied(ctx context.Context, url string) (*kept, error) {
	scheme, place, _ := strings.Cut(url, "://")
	switch {
	case scheme == "sqlite" && place != "":
		s, err := sqlite.Open(sqlite.Config{Path: place})
		if err != nil {
			return nil, fail(exitConfig, fileHint(err, place, "as FROM or TO"), "cannot open the store: %w", err)
		}
		return &kept{store: s}, nil
	case (scheme == "postgres" || scheme == "postgresql") && place != "":
		s, err := postgres.Open(ctx, postgres.Config{URL: url, Timeout: copyTimeout})
		if err != nil {
			return nil, fail(startCode(err), "`posta doctor --store URL` says more", "cannot open the store: %w", err)
		}
		return &kept{store: s, shared: true}, nil
	default:
		return nil, misuse("allowed is sqlite://FILE, such as sqlite://posta-data/posta.db, or postgres://USER@HOST/DATABASE",
			"no store is known as %q", redacted(url))
	}
}
