package blob

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sync"

	"github.com/posta-tasks/posta/internal/fail"
)

// Dir stores bodies as files in a directory. The path of a file is its key. Dir needs a file
// system with hard links and an honest fsync.
//
// Put writes a body under a temporary name, syncs it, links it to its key, which fails if the
// key exists, and syncs the directories above it from the leaf to the root. So every visible
// file is whole, and no finished Put is lost, wherever a process is killed or the power fails.
type Dir struct {
	root    *os.Root
	buffers sync.Pool                 // of *[]byte, copyBuffer long
	sync    func(file *os.File) error // (*os.File).Sync, except in tests
}

const (
	// tmp is the directory of unfinished bodies. It cannot be a task's id.
	tmp = "tmp"
	// copyBuffer is how many bytes of a body are in memory at once.
	copyBuffer = 64 << 10
	// placeTries limits how often a Put makes a directory again that a Delete has removed.
	placeTries = 16
)

// OpenDir opens the directory. If it does not exist, OpenDir creates it, readable only by its
// owner. The caller closes the Dir.
func OpenDir(name string) (*Dir, error) {
	if err := makeDirs(filepath.Clean(name)); err != nil {
		return nil, fmt.Errorf("open blobs: %w", err)
	}
	root, err := os.OpenRoot(name)
	if err != nil {
		return nil, fmt.Errorf("open blobs: %w", err)
	}
	if err := root.MkdirAll(tmp, 0o700); err != nil {
		root.Close()
		return nil, fmt.Errorf("open blobs: %w", err)
	}
	d := &Dir{root: root, sync: (*os.File).Sync}
	d.buffers.New = func() any { b := make([]byte, copyBuffer); return &b }
	return d, nil
}

// makeDirs is os.MkdirAll with syncs. A directory that is lost in a power failure takes its
// files with it.
func makeDirs(name string) error {
	if info, err := os.Stat(name); err == nil && info.IsDir() {
		return nil
	}
	parent := filepath.Dir(name)
	if parent != name {
		if err := makeDirs(parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(name, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	folder, err := os.Open(parent)
	if err != nil {
		return err
	}
	defer folder.Close()
	return folder.Sync()
}

// Close implements Blobs.
func (d *Dir) Close() error { return d.root.Close() }

// Put implements Blobs.
func (d *Dir) Put(ctx context.Context, key Key, body io.Reader, limit int64) (Sum, error) {
	if err := key.Check(); err != nil {
		return Sum{}, err
	}
	meter := Measure(ctx, body, limit)
	temp := path.Join(tmp, rand.Text())
	// This removes only the temporary name: the link under the key stays. If it fails, RemoveUnfinished
	// removes the file later.
	defer func() { _ = d.root.Remove(temp) }()
	if err := d.write(temp, meter); err != nil {
		if meter.Err() != nil {
			return Sum{}, fmt.Errorf("put %s: %w", key, meter.Err())
		}
		return Sum{}, unavailable("put", key, err)
	}
	sum := meter.Sum()
	err := fail.Error("blob.written")
	if err == nil {
		err = d.place(temp, key)
	}
	if errors.Is(err, fs.ErrExist) {
		err = d.compare(ctx, key, sum)
		if err != nil {
			return Sum{}, err
		}
	}
	if err == nil {
		err = fail.Error("blob.linked")
	}
	if err == nil {
		err = d.syncAbove(key.String())
	}
	if err != nil {
		return Sum{}, unavailable("put", key, err)
	}
	return sum, nil
}

// write writes the body to a new file and syncs it. The file's name is not synced.
func (d *Dir) write(name string, body io.Reader) (err error) {
	file, err := d.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	buffer := d.buffers.Get().(*[]byte)
	defer d.buffers.Put(buffer)
	// The file's own ReadFrom would allocate a buffer for each body.
	if _, err := io.CopyBuffer(struct{ io.Writer }{file}, body, *buffer); err != nil {
		return err
	}
	return d.sync(file)
}

// place links the file to its key. A Delete or RemoveUnfinished may remove the directory while it is
// empty, so place tries again.
func (d *Dir) place(temp string, key Key) (err error) {
	for range placeTries {
		err = d.root.MkdirAll(path.Dir(key.String()), 0o700)
		if err == nil {
			err = d.root.Link(temp, key.String())
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return err
}

// compare returns nil if the existing body under the key is the one that was to be put. Its
// bytes are on stable storage, since they are synced before the link; the directories above
// it may not be.
func (d *Dir) compare(ctx context.Context, key Key, sum Sum) error {
	stream, err := d.Get(ctx, key, sum)
	if err == nil {
		buffer := d.buffers.Get().(*[]byte)
		_, err = io.CopyBuffer(struct{ io.Writer }{io.Discard}, stream, *buffer)
		d.buffers.Put(buffer)
		stream.Close()
	}
	switch {
	case errors.Is(err, ErrCorrupt):
		return fmt.Errorf("put %s: %w", key, ErrExists)
	case errors.Is(err, ErrNotFound):
		return unavailable("put", key, errors.New("it was deleted meanwhile"))
	}
	return err
}

// syncAbove syncs the directories that lead to name, from the leaf to the root.
func (d *Dir) syncAbove(name string) error {
	for name != "." {
		name = path.Dir(name)
		if err := d.syncFolder(name); err != nil {
			return err
		}
	}
	return nil
}

func (d *Dir) syncFolder(name string) error {
	folder, err := d.root.Open(name)
	if err != nil {
		return err
	}
	defer folder.Close()
	return d.sync(folder)
}

// Get implements Blobs.
func (d *Dir) Get(ctx context.Context, key Key, want Sum) (io.ReadCloser, error) {
	if err := errors.Join(key.Check(), ctx.Err()); err != nil {
		return nil, err
	}
	file, err := d.root.Open(key.String())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("get %s: %w", key, ErrNotFound)
	}
	if err != nil {
		return nil, unavailable("get", key, err)
	}
	info, err := file.Stat()
	if err == nil && info.Size() == want.Size {
		return Verify(ctx, file, want), nil
	}
	file.Close()
	if err != nil {
		return nil, unavailable("get", key, err)
	}
	return nil, fmt.Errorf("get %s: %w: it has %d bytes, not %d", key, ErrCorrupt, info.Size(), want.Size)
}

// unavailable returns an ErrUnavailable with the operation and its cause.
func unavailable(what string, key Key, err error) error {
	return fmt.Errorf("%s %s: %w: %w", what, key, ErrUnavailable, err)
}

// Kind returns what people call this storage.
func (d *Dir) Kind() string { return "files" }
