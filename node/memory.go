package node

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
)

const (
	// leastBuffered is the smallest default limit of buffered bytes.
	leastBuffered = 64 << 20
	// unknownMemory is the assumed memory of a system that does not report it.
	unknownMemory = 1 << 30
	// controlGroups is the folder of control groups on Linux, for both versions.
	controlGroups = "/sys/fs/cgroup"
)

// UsableMemory returns how many bytes of memory the process may use: those of the machine, of its control group or of
// GOMEMLIMIT, whichever is least, and 1 GiB if none is known.
func UsableMemory() int64 {
	memory := min(physicalMemory("/proc/meminfo"), groupMemory(controlGroups, "/proc/self/cgroup"), debug.SetMemoryLimit(-1))
	if memory == math.MaxInt64 {
		memory = unknownMemory
	}
	return memory
}

// DefaultBuffered returns the default of task.Limits.BufferedBytes: a quarter of UsableMemory, and at least 64 MiB. The
// garbage collector needs about as much again, and the rest is for everything else.
func DefaultBuffered() int { return int(max(UsableMemory()/4, leastBuffered)) }

// physicalMemory returns the memory of the machine in bytes, from a file such as /proc/meminfo.
func physicalMemory(path string) int64 {
	text, err := os.ReadFile(path)
	if err != nil {
		return math.MaxInt64
	}
	_, total, _ := strings.Cut(string(text), "MemTotal:")
	fields := strings.Fields(total)
	if len(fields) == 0 {
		return math.MaxInt64
	}
	kib, err := strconv.ParseInt(fields[0], 10, 64)
	if err != nil || kib <= 0 {
		return math.MaxInt64
	}
	return kib << 10
}

// groupMemory returns the smallest memory limit of the control groups of the process. groups is the folder of control
// groups, and own the file that lists those of the process. In a container, its group is the root of the folder.
func groupMemory(groups, own string) int64 {
	least := int64(math.MaxInt64)
	names, _ := os.ReadFile(own)
	for line := range bytes.Lines(append(names, "0::/\n1:memory:/\n"...)) {
		fields := strings.SplitN(strings.TrimSpace(string(line)), ":", 3)
		if len(fields) < 3 {
			continue
		}
		folder, file := groups, "memory.max"
		if fields[1] != "" {
			folder, file = filepath.Join(groups, "memory"), "memory.limit_in_bytes"
		}
		for name := filepath.Clean("/" + fields[2]); ; name = filepath.Dir(name) {
			text, _ := os.ReadFile(filepath.Join(folder, name, file))
			if limit, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil && limit > 0 {
				least = min(least, limit)
			}
			if name == "/" {
				break
			}
		}
	}
	return least
}
