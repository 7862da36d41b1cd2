package blob

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
)

// Meter reads a body for a Put. It counts, hashes and limits the bytes. Drivers store what they
// read from it. It belongs to one goroutine.
type Meter struct {
	alive func() error
	body  io.Reader
	limit int64
	size  int64
	hash  hash.Hash
	err   error
}

// Measure returns a Meter for one Put.
func Measure(ctx context.Context, body io.Reader, limit int64) *Meter {
	return &Meter{alive: ctx.Err, body: body, limit: max(limit, 0), hash: sha256.New()}
}

// Read implements io.Reader. It fails with ErrTooLarge, the context's error, or the body's.
func (m *Meter) Read(p []byte) (int, error) {
	if m.err == nil {
		m.err = m.alive()
	}
	if m.err != nil {
		return 0, m.err
	}
	// Reading one byte more than allowed distinguishes a body that just fits from a larger one.
	if room := m.limit - m.size + 1; int64(len(p)) > room {
		p = p[:room]
	}
	n, err := m.body.Read(p)
	m.err = err
	m.size += int64(n)
	if m.size > m.limit {
		m.err = fmt.Errorf("%w: more than %d bytes", ErrTooLarge, m.limit)
		return 0, m.err
	}
	m.hash.Write(p[:n])
	return n, m.err
}

// Err returns the error of reading. After a failed Put, nil means that the storage failed, not
// the body.
func (m *Meter) Err() error {
	if errors.Is(m.err, io.EOF) {
		return nil
	}
	return m.err
}

// Sum returns the size and hash of the bytes read so far.
func (m *Meter) Sum() Sum { return Sum{Size: m.size, SHA256: hex.EncodeToString(m.hash.Sum(nil))} }

// Verify returns the stream that Get promises for stored bytes. Closing it closes stored.
func Verify(ctx context.Context, stored io.ReadCloser, want Sum) io.ReadCloser {
	return &verifier{ReadCloser: stored, alive: ctx.Err, want: want, left: want.Size, hash: sha256.New()}
}

type verifier struct {
	io.ReadCloser
	alive func() error
	want  Sum
	left  int64 // bytes still to come
	hash  hash.Hash
	err   error // io.EOF after a successful check
}

func (v *verifier) Read(p []byte) (int, error) {
	if v.err != nil || len(p) == 0 {
		return 0, v.err
	}
	if err := v.alive(); err != nil {
		return 0, err
	}
	if v.left <= 0 { // the body is empty
		v.err = v.end()
		return 0, v.err
	}
	n, err := v.ReadCloser.Read(p[:min(int64(len(p)), v.left)])
	v.hash.Write(p[:n])
	v.left -= int64(n)
	switch {
	case v.left == 0:
		v.err = v.end()
	case errors.Is(err, io.EOF):
		v.err = fmt.Errorf("%w: it ends %d bytes early", ErrCorrupt, v.left)
	case err != nil:
		v.err = fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if v.err != nil && !errors.Is(v.err, io.EOF) {
		return 0, v.err
	}
	return n, nil
}

// end returns io.EOF if no byte follows and the hash matches.
func (v *verifier) end() error {
	var more [1]byte
	switch n, err := io.ReadFull(v.ReadCloser, more[:]); {
	case n > 0:
		return fmt.Errorf("%w: it goes on after %d bytes", ErrCorrupt, v.want.Size)
	case !errors.Is(err, io.EOF):
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if sum := hex.EncodeToString(v.hash.Sum(nil)); sum != v.want.SHA256 {
		return fmt.Errorf("%w: its SHA-256 is %s, not %s", ErrCorrupt, sum, v.want.SHA256)
	}
	return io.EOF
}
