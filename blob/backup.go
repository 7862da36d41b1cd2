package blob

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"
)

// anySize is larger than any body. Put has checked the limits of stored bodies.
const anySize = 1 << 62

// Backup copies all bodies to another storage, while this one is in use, and returns their
// number and bytes. Bodies that are put or deleted meanwhile may be missing. Back up the rows
// first: then the bodies of all rows are copied, except those of rows that were deleted
// meanwhile.
func (d *Dir) Backup(ctx context.Context, to Blobs) (count int, bytes int64, err error) {
	for found, err := range d.List(ctx, time.Now().AddDate(100, 0, 0)) {
		if err != nil {
			return count, bytes, fmt.Errorf("backup of blobs: %w", err)
		}
		size, err := d.copyTo(ctx, to, found.Key)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return count, bytes, fmt.Errorf("backup of blobs: %w", err)
		}
		count, bytes = count+1, bytes+size
	}
	return count, bytes, nil
}

// copyTo copies one body.
func (d *Dir) copyTo(ctx context.Context, to Blobs, key Key) (int64, error) {
	file, err := d.root.Open(key.String())
	if err != nil {
		return 0, err
	}
	defer file.Close()
	sum, err := to.Put(ctx, key, file, anySize)
	return sum.Size, err
}
