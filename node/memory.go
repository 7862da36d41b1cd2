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
	// leastBuffered is what clients may make a node hold however little memory there is.
	leastBuffered = 64 << 20
	// unknownMemory is taken for the memory of a system that does not tell.
	unknownMemory = 1 << 30
	// controlGroups is where Linux shows control groups, of both versions.
	controlGroups = "/sys/fs/cgroup"
)

// defaultBuffered returns how many bytes clients may make a node hold when it is not told: a quarter of the
// memory that the process may use. The rest is for the garbage collector, which needs about as much again, and for
// everything else.
func defaultBuffered() int {
	memory := min(physicalMemory("/proc/meminfo"), groupMemory(controlGroups, "/proc/self/cgroup"), debug.SetMemoryLimit(-1))
	if memory == math.MaxInt64 {
		memory = unknownMemory
	}
	return int(max(memory/4, leastBuffered))
}

// physicalMemory returns the memory of the machine as a file such as /proc/meminfo tells it.
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

// groupMemory returns the least of the bounds that the control groups of the process have; groups is where
// they are shown, and own the file that names those of the process. In a container its own group is at the root.
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
