package checkup

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// roomNeeded is the space below which a disk is nearly full: accepts are refused when it is.
const roomNeeded = 1 << 30

// Directory looks at one that will be written to, or at the nearest one above it when it is not
// there yet.
func Directory(part, path string) Check {
	return Check{part, func(context.Context) Finding {
		there, err := nearest(path)
		if err != nil {
			return wrong("name a directory that can be made", "%s", err)
		}
		probe, err := os.CreateTemp(there, ".posta-doctor-*")
		if err != nil {
			return wrong("give it to the user that runs posta: chown USER "+there, "%s cannot be written to: %s", there, err)
		}
		probe.Close()
		if err := os.Remove(probe.Name()); err != nil {
			return wrong("give it to the user that runs posta: chown USER "+there, "%s", err)
		}
		return space(there)
	}}
}

// nearest gives the directory itself, or the first above it that is there.
func nearest(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	for {
		info, err := os.Stat(path)
		switch {
		case err == nil && info.IsDir():
			return path, nil
		case err == nil:
			return "", fmt.Errorf("%s is no directory", path)
		case !os.IsNotExist(err) || path == filepath.Dir(path):
			return "", err
		}
		path = filepath.Dir(path)
	}
}

// space looks at how full a directory's disk is.
func space(path string) Finding {
	var disk syscall.Statfs_t
	if err := syscall.Statfs(path, &disk); err != nil {
		return doubtful("look at it by hand: df", "the space at %s is not known: %s", path, err)
	}
	free := int64(disk.Bavail) * disk.Bsize
	if free < roomNeeded {
		return doubtful("make room: tasks are refused when it is full", "%s can be written to, and has %d MiB left", path, free>>20)
	}
	return good("%s can be written to, and has %d GiB left", path, free>>30)
}

// besides is what a node opens beside its connections: the store, the log, its peers.
const besides = 256

// Descriptors looks at how many files the process may have open, for so many connections.
func Descriptors(connections int) Check {
	return Check{"descriptors", func(context.Context) Finding {
		var limit syscall.Rlimit
		if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
			return doubtful("look at it by hand: ulimit -n", "the limit is not known: %s", err)
		}
		if need := uint64(connections + besides); limit.Cur < need {
			return doubtful(fmt.Sprintf("LimitNOFILE=%d, ulimit -n, or fewer --max-connections", need),
				"this process may have %d files open, and %d connections need %d", limit.Cur, connections, need)
		}
		return good("%d files may be open, enough for %d connections", limit.Cur, connections)
	}}
}

// Probe looks at a part by one call; mend is what to do when it fails.
func Probe(part, saw, mend string, call func(ctx context.Context) error) Check {
	return Check{part, func(ctx context.Context) Finding {
		if err := call(ctx); err != nil {
			return wrong(mend, "%s", err)
		}
		return good("%s", saw)
	}}
}

// Database looks at a database: ask gives its schema's version and how far its clock is ahead.
func Database(part string, ask func(ctx context.Context) (version int, ahead time.Duration, err error)) Check {
	return Check{part, func(ctx context.Context) Finding {
		version, ahead, err := ask(ctx)
		switch {
		case err != nil:
			return wrong("is it up, and does the URL name its host, user, password and database?", "%s", err)
		case ahead.Abs() > clockTolerance:
			return doubtful("let both machines follow the same time server", "its clock and this machine's are %s apart", ahead.Abs().Round(time.Second))
		case version == 0:
			return good("it answers, and has no schema yet: the first node makes it")
		}
		return good("it answers, its schema has version %d", version)
	}}
}
