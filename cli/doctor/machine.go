package doctor

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/posta-tasks/posta/task"
)

// roomNeeded is the free space below which a disk is nearly full. A node whose disk is full refuses tasks.
const roomNeeded = 1 << 30

// directory checks one that a node would write to. If it does not exist yet, directory checks the nearest one
// above it.
func directory(_ context.Context, path string) []Finding {
	dir, err := nearest(path)
	if err != nil {
		return []Finding{fault("name a directory that can be made", "%s", err)}
	}
	return []Finding{judgeDirectory(dir)}
}

// judgeDirectory writes a file into a directory, and judges the directory's mode and its free space.
func judgeDirectory(path string) Finding {
	fix := "give it to the user that runs posta: chown USER " + path
	probe, err := os.CreateTemp(path, ".posta-doctor-*")
	if err != nil {
		return fault(fix, "%s cannot be written to: %s", path, err)
	}
	probe.Close()
	if err := os.Remove(probe.Name()); err != nil {
		return fault(fix, "%s", err)
	}
	if mode := modeOf(path); mode&0o002 != 0 && mode&os.ModeSticky == 0 {
		return doubt("chmod o-w "+path, "everybody may write to %s", path)
	}
	return judgeSpace(path)
}

// nearest returns the directory itself if it exists, otherwise the first one above it that does.
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

// judgeSpace judges the free space of the disk that a directory is on.
func judgeSpace(path string) Finding {
	var disk syscall.Statfs_t
	if err := syscall.Statfs(path, &disk); err != nil {
		return doubt("look at it by hand: df", "the space at %s is not known: %s", path, err)
	}
	free := int64(disk.Bavail) * disk.Bsize
	if free < roomNeeded {
		return doubt("make room: tasks are refused when it is full", "%s can be written to, and has %d MiB left", path, free>>20)
	}
	return good("%s can be written to, and has %d GiB left", path, free>>30)
}

// otherDescriptors is how many files a node opens beside its connections: the store, the log, its peers.
const otherDescriptors = 256

// descriptors checks how many files this process may open. A node needs one for each connection.
func descriptors(context.Context, string) []Finding {
	const connections = task.DefaultConnections
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return []Finding{doubt("look at it by hand: ulimit -n", "the limit is not known: %s", err)}
	}
	if need := uint64(connections + otherDescriptors); limit.Cur < need {
		return []Finding{doubt(fmt.Sprintf("LimitNOFILE=%d, ulimit -n, or fewer --max-connections", need),
			"this process may have %d files open, and %d connections need %d", limit.Cur, connections, need)}
	}
	return []Finding{good("%d files may be open, enough for %d connections", limit.Cur, connections)}
}

// remote returns the name of the network file system that a directory is on, or "". Locks and syncs do not work
// on such file systems as they do on a disk.
func remote(path string) string {
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
