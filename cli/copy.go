package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/posta-tasks/posta/blob"
	"github.com/posta-tasks/posta/blob/s3"
	"github.com/posta-tasks/posta/cli/terminal"
	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

// copyFlags are the flags of posta copy.
type copyFlags struct {
	from, to   drivers
	stayInBlob bool
	resume     bool
	json       bool
}

func newCopy(out *terminal.Outside) *cobra.Command {
	f := &copyFlags{from: drivers{env: out.Lookup}, to: drivers{env: out.Lookup}}
	cmd := &cobra.Command{
		Use:     "copy FROM TO [flags]",
		GroupID: groupServe,
		Short:   "Move durable tasks from one store to another",
		Long: `Copies all durable tasks from the store FROM to the store TO, for example from
the SQLite file of ` + "`posta up`" + ` to PostgreSQL, or back. Each is a URL as for ` + "`posta node --store`" + `:
sqlite://FILE or postgres://USER@HOST/DATABASE.

Stop the nodes of both stores first: copy refuses a store that a node uses. In
PostgreSQL, a node that has stopped stays registered for 15 s; copy waits for that.

Every task is the same in the copy: its id, state, attempts, history, result, labels
and key. Queues, including paused ones, are copied too. Tasks that were running when
their node was killed run again, as after any crash. Finished tasks whose keep has
passed are left out. FROM is not changed.

Payloads and results of more than 64 KiB are in blob storage. --blobs-from and
--blobs-to name the two storages. With --same-blobs the nodes continue to use the
storage that they have.

TO must be empty. --resume continues a copy that was interrupted: tasks that are in TO
already must be the same there. At the end, copy counts the tasks of each queue and
state in TO, and fails if a count differs.

Every user of the machine can read a password on the command line. PGPASSWORD and
~/.pgpass of PostgreSQL work here too.`,
		Example: `  posta copy sqlite://posta-data/posta.db postgres://posta@db.example.com/posta \
      --blobs-from file://posta-data/blobs --blobs-to 's3://bodies?endpoint=https://s3.example.com'
  posta copy postgres://posta@db.example.com/posta sqlite://new/posta.db --same-blobs
  posta copy --resume sqlite://posta.db postgres:///posta`,
		Args: arguments(2, 2),
	}
	flags := cmd.Flags()
	flags.StringVar(&f.from.blobs, "blobs-from", "", "the `URL` of the blobs of FROM")
	flags.StringVar(&f.to.blobs, "blobs-to", "", "the `URL` of the storage for the copies")
	flags.BoolVar(&f.stayInBlob, "same-blobs", false, "copy no blobs: the nodes of TO use the storage of FROM")
	flags.BoolVar(&f.resume, "resume", false, "continue a copy that was interrupted")
	flags.BoolVar(&f.json, "json", false, "print one JSON object")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		f.from.store, f.to.store = args[0], args[1]
		for _, url := range args {
			if redacted(url) != url {
				out.Talk("posta: warning: %s has a password in it, and every user of this machine can read it there", redacted(url))
				out.Talk("posta: hint: put it into the environment variable PGPASSWORD or into ~/.pgpass instead")
			}
		}
		return f.run(cmd.Context(), out)
	}
	return cmd
}

// check refuses flags that contradict each other.
func (f *copyFlags) check() error {
	switch {
	case f.from.store == f.to.store:
		return misuse("name two stores", "FROM and TO are the same")
	case (f.from.blobs == "") != (f.to.blobs == ""):
		return misuse("give both --blobs-from and --blobs-to, or --same-blobs", "blobs are copied from one storage to another")
	case f.from.blobs != "" && f.stayInBlob:
		return misuse("leave out --same-blobs, or the other two", "--same-blobs copies no blobs, --blobs-from and --blobs-to do")
	}
	return nil
}

// run opens both sides, copies, and prints what was copied.
func (f *copyFlags) run(ctx context.Context, out *terminal.Outside) (err error) {
	if err := f.check(); err != nil {
		return err
	}
	begin := time.Now()
	bodies, err := f.openBodies(ctx)
	if err != nil {
		return err
	}
	defer bodies.close()
	from, err := openSource(ctx, f.from.store)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, from.store.Close()) }()
	to, err := openTarget(ctx, f.to.store)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, to.store.Close()) }()
	for _, k := range []*kept{from, to} {
		if err := k.waitUntilUnused(ctx, out); err != nil {
			return err
		}
	}
	if err := bodies.check(ctx, from.store); err != nil {
		return err
	}
	copied, err := f.copy(ctx, out, from.store, to.store, bodies)
	if err != nil {
		return err
	}
	for _, k := range []*kept{from, to} {
		if err := k.stillUnused(ctx); err != nil {
			return err
		}
	}
	moved := moved{
		Tasks: copied.Tasks, Present: copied.Present, PastKeep: copied.PastKeep, Queues: copied.Counts,
		Blobs: bodies.count, BlobBytes: bodies.bytes, Seconds: math.Round(time.Since(begin).Seconds()*1e3) / 1e3,
	}
	return moved.print(out, f.json)
}

// copy copies the tasks and shows its progress on a terminal.
func (f *copyFlags) copy(ctx context.Context, out *terminal.Outside, from, to store.Store, bodies *bodyCopier) (store.Copied, error) {
	var done, total atomic.Int64
	bar := terminal.NewProgress(out, f.json)
	bar.Watch(func() string {
		n, all := done.Load(), total.Load()
		if all == 0 {
			return "counting the tasks"
		}
		return terminal.Bar(float64(n)/float64(all)) + " " + terminal.Thousands(n) + " of " + count(int(all), "task")
	})
	defer bar.Stop()
	copied, err := store.Copy(ctx, from, to, store.CopyConfig{
		Resume: f.resume, Bodies: bodies.copy,
		Progress: func(n, all int) { done.Store(int64(n)); total.Store(int64(all)) },
	})
	switch {
	case errors.Is(err, store.ErrNotEmpty):
		return copied, fail(exitFailed, "name an empty store; if a copy to it was interrupted, --resume goes on", "%w", err)
	case err != nil:
		why := classify(err)
		return copied, fail(why.Code, cmp.Or(why.Hint, "FROM is as it was; `posta copy --resume` goes on when the cause is gone"),
			"the copy is not complete: %w", err)
	}
	return copied, nil
}

// waitUntilUnused waits until no node uses a store that other processes may have open.
func (k *kept) waitUntilUnused(ctx context.Context, out *terminal.Outside) error {
	if !k.shared {
		return nil
	}
	err := store.WaitUntilUnused(ctx, k.store, func(n store.Node) {
		out.Talk("posta: node %s was there %s s ago; waiting for %d s without it", terminal.Printable(n.Name),
			terminal.Thousands(int64(time.Since(n.Seen).Seconds())), int(task.LeaseTime.Seconds()))
	})
	if errors.Is(err, store.ErrInUse) {
		return fail(exitFailed, "stop all nodes of both stores first", "%w", err)
	}
	return err
}

// stillUnused fails if a node has started to use the store meanwhile.
func (k *kept) stillUnused(ctx context.Context) error {
	if !k.shared {
		return nil
	}
	nodes, err := k.store.Nodes(ctx)
	if err == nil && len(nodes) > 0 {
		names := make([]string, len(nodes))
		for i, n := range nodes {
			names[i] = terminal.Printable(n.Name)
		}
		err = fail(exitFailed, "stop all nodes, empty TO, and copy again", "nodes were started during the copy, which may not have what they did: %s",
			strings.Join(names, ", "))
	}
	return err
}

// bodyCopier copies the bodies of tasks that are in blob storage.
type bodyCopier struct {
	from, to blob.Blobs // nil: no bodies are copied
	stay     bool       // the bodies may stay where they are
	count    int
	bytes    int64
}

// openBodies opens both storages, and checks that the target can be written to.
func (f *copyFlags) openBodies(ctx context.Context) (*bodyCopier, error) {
	b := &bodyCopier{stay: f.stayInBlob}
	if f.from.blobs == "" {
		return b, nil
	}
	err := blobsThere(f.from.blobs, "--blobs-from is the storage of posta node, or blobs in the data directory of posta up")
	if err == nil {
		b.from, err = f.from.openBlobs()
	}
	if err == nil {
		b.to, err = f.to.openBlobs()
	}
	if bucket, isS3 := b.to.(*s3.Blobs); isS3 && err == nil {
		err = writable(ctx, bucket)
	}
	if err != nil {
		b.close()
		return nil, err
	}
	return b, nil
}

// writable fails if bodies cannot be written to a bucket.
func writable(ctx context.Context, bucket *s3.Blobs) error {
	report, err := bucket.Check(ctx)
	if err == nil && len(report.Refused) > 0 {
		err = fmt.Errorf("the keys may not %s", strings.Join(report.Refused, "; "))
	}
	if err != nil {
		return fail(exitConfig, "`posta doctor --blobs URL` says more", "--blobs-to: %w", err)
	}
	return nil
}

// check fails if a task has a body in blob storage and no flag says what to do with it. It reads all tasks before
// anything is copied.
func (b *bodyCopier) check(ctx context.Context, from store.Store) error {
	if b.stay || b.from != nil {
		return nil
	}
	for query := (store.Query{Limit: 256}); ; {
		page, err := from.List(ctx, query)
		if err != nil {
			return err
		}
		ids := make([]string, len(page.Tasks))
		for i := range page.Tasks {
			ids[i] = page.Tasks[i].ID
		}
		if len(ids) > 0 {
			tasks, err := from.Get(ctx, ids)
			if err != nil {
				return err
			}
			for i := range tasks {
				if err := b.copy(ctx, &tasks[i]); err != nil {
					return err
				}
			}
		}
		if query.Cursor = page.Cursor; query.Cursor == "" {
			return nil
		}
	}
}

func (b *bodyCopier) close() {
	for _, blobs := range []blob.Blobs{b.from, b.to} {
		if blobs != nil {
			_ = blobs.Close() // all blobs are on stable storage already
		}
	}
}

// copy copies the payload and the result of a task if they are blobs.
func (b *bodyCopier) copy(ctx context.Context, t *task.Task) error {
	for _, one := range []struct {
		key  blob.Key
		body task.Body
	}{{blob.Payload(t.ID), t.Payload}, {blob.Result(t.ID, t.Fence), t.Result}} {
		if err := b.one(ctx, one.key, one.body); err != nil {
			return err
		}
	}
	return nil
}

func (b *bodyCopier) one(ctx context.Context, key blob.Key, body task.Body) error {
	switch {
	case !body.IsBlob() || b.stay:
		return nil
	case b.from == nil:
		return fail(exitUsage, "add --blobs-from and --blobs-to, or --same-blobs if the nodes go on with the storage that they have",
			"%s is in blob storage", key)
	}
	want := blob.Sum{Size: body.Size, SHA256: body.SHA256}
	stream, err := b.from.Get(ctx, key, want)
	if err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	defer stream.Close()
	got, err := b.to.Put(ctx, key, stream, task.BlobBytes)
	if err == nil && got != want {
		err = blob.ErrCorrupt
	}
	if err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	b.count, b.bytes = b.count+1, b.bytes+got.Size
	return nil
}

// moved counts what a copy has done.
type moved struct {
	Tasks     int                           `json:"tasks"`
	Present   int                           `json:"present_before"`
	PastKeep  int                           `json:"past_keep"`
	Queues    map[string]map[task.State]int `json:"queues"`
	Blobs     int                           `json:"blobs"`
	BlobBytes int64                         `json:"blob_bytes"`
	Seconds   float64                       `json:"seconds"`
}

func (m *moved) print(out *terminal.Outside, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(out.Results()).Encode(m)
	}
	var text strings.Builder
	for _, name := range slices.Sorted(maps.Keys(m.Queues)) {
		var parts []string
		for _, s := range task.States() {
			if n := m.Queues[name][s]; n > 0 {
				parts = append(parts, terminal.Thousands(int64(n))+" "+string(s))
			}
		}
		fmt.Fprintf(&text, "%s: %s\n", name, strings.Join(parts, ", "))
	}
	fmt.Fprintf(&text, "%s, %s with %s, in %.2f s; the counts are those of FROM\n",
		count(m.Tasks, "task"), count(m.Blobs, "blob"), terminal.Bytes(m.BlobBytes), m.Seconds)
	if m.PastKeep > 0 {
		fmt.Fprintf(&text, "%s past their keep left out\n", count(m.PastKeep, "task"))
	}
	_, err := fmt.Fprint(out.Results(), text.String())
	return err
}
