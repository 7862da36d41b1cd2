package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/posta-tasks/posta/cli/terminal"
)

// backupFlags are the flags of posta backup.
type backupFlags struct {
	data    string
	drivers drivers
	json    bool
}

func newBackup(out *terminal.Outside) *cobra.Command {
	f := &backupFlags{}
	cmd := &cobra.Command{
		Use:     "backup TO [flags]",
		GroupID: groupServe,
		Short:   "Copy the durable tasks of a running system",
		Long: `Copies durable tasks, their results and their history into the new directory TO.
` + "`posta up`" + ` or ` + "`posta node`" + ` may be running. The copy includes every task that was
acknowledged before the backup began. Tasks that were running at that moment run again
when the copy is used.

The copy is checked, and TO appears only when all of it is on stable storage. TO is a
data directory: ` + "`posta up --data TO`" + ` starts from it. It contains

    posta.db   the store as it was at one moment
    blobs      the payloads and results of more than 64 KiB, copied after the store, so
               that none of them is missing

With --store it copies that store, and with --blobs its blobs. For PostgreSQL and S3,
use their own tools.`,
		Example: `  posta backup backups/monday
  posta backup --data /var/lib/posta /var/backups/posta-monday
  posta backup --store sqlite://posta.db --blobs file://blobs monday`,
		Args: arguments(1, 1),
	}
	flags := cmd.Flags()
	flags.StringVar(&f.data, "data", defaultData, "the data `directory` of posta up")
	flags.StringVar(&f.drivers.store, "store", "", "the `URL` of the store of posta node, instead of --data")
	flags.StringVar(&f.drivers.blobs, "blobs", "", "the `URL` of its blobs")
	flags.BoolVar(&f.json, "json", false, "print one JSON object")
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return backup(cmd.Context(), out, f, args[0]) }
	return withVariables(out, cmd, "data", "store", "blobs")
}

// saved is what a backup has copied.
type saved struct {
	To        string  `json:"to"`
	Bytes     int64   `json:"store_bytes"`
	Blobs     int     `json:"blobs"`
	BlobBytes int64   `json:"blob_bytes"`
	Seconds   float64 `json:"seconds"`
}

// backup writes the copy next to its destination, and renames it when it is complete.
func backup(ctx context.Context, out *terminal.Outside, f *backupFlags, to string) error {
	if err := checkPath("TO", to); err != nil {
		return err
	}
	if err := checkPath("--data", f.data); err != nil {
		return err
	}
	from := f.drivers
	switch {
	case from.store == "" && from.blobs == "":
		from = driversIn(f.data)
	case from.store == "":
		return misuse("--store says where the tasks are; --data stands for both", "--blobs is given, and --store is not")
	}
	begin := time.Now()
	to = filepath.Clean(to)
	if _, err := os.Lstat(to); err == nil {
		return misuse("name a directory that is not there yet", "%s is there already", to)
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return fail(exitFailed, "TO is a directory that can be made", "%w", err)
	}
	// Files next to TO are not ours, whatever their names are. So the new directory gets a unique name.
	partial, err := os.MkdirTemp(filepath.Dir(to), filepath.Base(to)+".partial-*")
	if err != nil {
		return fail(exitFailed, "TO is a directory that can be made", "%w", err)
	}
	s := saved{To: to}
	err = s.copy(ctx, from, driversIn(partial))
	if err == nil {
		err = settle(partial, to)
	}
	if err != nil {
		return errors.Join(err, os.RemoveAll(partial))
	}
	s.Seconds = math.Round(time.Since(begin).Seconds()*1e3) / 1e3
	return s.print(out, f.json)
}

// copy copies the store, then the blobs.
func (s *saved) copy(ctx context.Context, from, to drivers) (err error) {
	if s.Bytes, err = backupStore(ctx, from.store, to.store); err != nil {
		return err
	}
	if from.blobs != "" {
		s.Blobs, s.BlobBytes, err = backupBlobs(ctx, from.blobs, to.blobs)
	}
	return err
}

// settle renames a complete copy and syncs the directory.
func settle(partial, to string) error {
	err := syncDir(partial)
	if err == nil {
		err = os.Rename(partial, to)
	}
	if err == nil {
		err = syncDir(filepath.Dir(to))
	}
	return err
}

func syncDir(name string) error {
	dir, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// print prints what was copied.
func (s *saved) print(out *terminal.Outside, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(out.Results()).Encode(s)
	}
	blobs := "no blobs"
	if s.Blobs > 0 {
		blobs = fmt.Sprintf("%s with %s", count(s.Blobs, "blob"), terminal.Bytes(s.BlobBytes))
	}
	_, err := fmt.Fprintf(out.Stdout, "%s: a store of %s, checked, and %s, in %.2f s\n", s.To, terminal.Bytes(s.Bytes), blobs, s.Seconds)
	return err
}
