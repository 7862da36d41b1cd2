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

// Dir keeps bodies as files of one directory, whose paths in it are their keys. It needs a
// file system with hard links and an honest fsync.
//
// A body is written under a name of its own in tmp, synced, linked to its key, which fails
// if there is one already, and the directories above it are synced from the leaf to the
// root. So what can be opened is whole, and what was answered stays, wherever a process is
// killed or the power fails.
type Dir struct {
	root    *os.Root
	buffers sync.Pool                 // of *[]byte, copyBuffer long
	sync    func(file *os.File) error // (*os.File).Sync, but for tests
}

const (
	// tmp is where bodies are written; no task has an id like it.
	tmp = "tmp"
	// copyBuffer is how much of a body is in memory at once, in bytes.
	copyBuffer = 64 << 10
	// placeTries bounds how often a Put makes a directory that a Delete takes away again.
	placeTries = 16
)

// OpenDir opens the directory, which it makes if it is not there, readable for its owner
// alone. The caller closes it.
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

// makeDirs is os.MkdirAll that also syncs: a directory that the power takes away takes all
// that is in it.
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
	// A link to the file stays under its key; this is only its first name. What cannot be
	// removed is swept later.
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

// write makes a file of the body, on stable storage but for its name.
func (d *Dir) write(name string, body io.Reader) (err error) {
	file, err := d.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	buffer := d.buffers.Get().(*[]byte)
	defer d.buffers.Put(buffer)
	// The file's own ReadFrom would take a buffer for each body.
	if _, err := io.CopyBuffer(struct{ io.Writer }{file}, body, *buffer); err != nil {
		return err
	}
	return d.sync(file)
}

// place links the file to its key. A Delete or Sweep may take the directory away before
// there is something in it.
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

// compare tells whether what is under the key already is the body that was to be put. Its
// bytes are on stable storage, since they were before they were linked; the directories
// above it may not be.
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

// unavailable says what could not be done, and why.
func unavailable(what string, key Key, err error) error {
	return fmt.Errorf("%s %s: %w: %w", what, key, ErrUnavailable, err)
}
