package doctor

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// roomNeeded is the space below which a disk is nearly full: accepts are refused when it is.
const roomNeeded = 1 << 30

// Directory looks at one that will be written to, or at the nearest one above it when it is not
// there yet.
func Directory(part, path string) Check {
	return One(part, func(context.Context) Finding {
		there, err := nearest(path)
		if err != nil {
			return Fault("name a directory that can be made", "%s", err)
		}
		probe, err := os.CreateTemp(there, ".posta-doctor-*")
		if err != nil {
			return Fault("give it to the user that runs posta: chown USER "+there, "%s cannot be written to: %s", there, err)
		}
		probe.Close()
		if err := os.Remove(probe.Name()); err != nil {
			return Fault("give it to the user that runs posta: chown USER "+there, "%s", err)
		}
		if mode := modeOf(there); mode&0o002 != 0 && mode&os.ModeSticky == 0 {
			return Doubt("chmod o-w "+there, "everybody may write to %s", there)
		}
		return space(there)
	})
}

// nearest returns the directory itself, or the first above it that is there.
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

func modeOf(path string) os.FileMode {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return info.Mode()
}

// space looks at how full a directory's disk is.
func space(path string) Finding {
	var disk syscall.Statfs_t
	if err := syscall.Statfs(path, &disk); err != nil {
		return Doubt("look at it by hand: df", "the space at %s is not known: %s", path, err)
	}
	free := int64(disk.Bavail) * disk.Bsize
	if free < roomNeeded {
		return Doubt("make room: tasks are refused when it is full", "%s can be written to, and has %d MiB left", path, free>>20)
	}
	return Good("%s can be written to, and has %d GiB left", path, free>>30)
}

// besides is what a node opens beside its connections: the store, the log, its peers.
const besides = 256

// Descriptors looks at how many files the process may have open, for so many connections.
func Descriptors(connections int) Check {
	return One("descriptors", func(context.Context) Finding {
		var limit syscall.Rlimit
		if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
			return Doubt("look at it by hand: ulimit -n", "the limit is not known: %s", err)
		}
		if need := uint64(connections + besides); limit.Cur < need {
			return Doubt(fmt.Sprintf("LimitNOFILE=%d, ulimit -n, or fewer --max-connections", need),
				"this process may have %d files open, and %d connections need %d", limit.Cur, connections, need)
		}
		return Good("%d files may be open, enough for %d connections", limit.Cur, connections)
	})
}

// Remote names the network file system that a directory is on, where locks and syncs are not what
// they are on a disk; "" when it is on none that is known.
func Remote(path string) string {
	there, err := nearest(path)
	if err != nil {
		return ""
	}
	var disk syscall.Statfs_t
	if syscall.Statfs(there, &disk) != nil {
		return ""
	}
	return map[uint32]string{
		0x6969: "NFS", 0x517b: "SMB", 0xfe534d42: "SMB", 0xff534d42: "CIFS", 0x65735546: "FUSE", 0x01021997: "9P",
	}[uint32(disk.Type)]
}
