package load

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Memory returns a field of /proc/PID/status in bytes, such as VmRSS, the resident memory, or VmHWM, its peak.
func Memory(pid int, field string) (int64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, fmt.Errorf("resident memory is read from /proc: %w", err)
	}
	for line := range strings.Lines(string(status)) {
		value, found := strings.CutPrefix(line, field+":")
		if !found {
			continue
		}
		kib, err := strconv.ParseInt(strings.Fields(value)[0], 10, 64)
		return kib << 10, err
	}
	return 0, fmt.Errorf("process %d has no %s", pid, field)
}

// CPUOf returns the CPU time of processes and their children. The id 0 means no process.
func CPUOf(pids []int) time.Duration {
	counted := map[int]bool{}
	for _, pid := range pids {
		counted[pid] = pid != 0
	}
	parents := parentsOfAll()
	var sum time.Duration
	for pid := range parents {
		for at := pid; at > 1; at = parents[at] {
			if counted[at] {
				sum += CPUTime(pid)
				break
			}
		}
	}
	return sum
}

// parentsOfAll returns the parent of each process, according to /proc.
func parentsOfAll() map[int]int {
	parents := map[int]int{}
	folders, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range folders {
		stat, _ := os.ReadFile(path)
		fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil || len(fields) < 2 {
			continue
		}
		parents[pid], _ = strconv.Atoi(string(fields[1]))
	}
	return parents
}

// CPUTime returns the CPU time of a process in steps of a clock tick (10 ms); 0 if it is unknown.
func CPUTime(pid int) time.Duration {
	const ticksPerSecond = 100 // the value on every architecture of Linux
	if pid == 0 {
		return 0
	}
	stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	// The second field is the name of the program in parentheses. It may contain spaces, so count from the end.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.ParseInt(string(fields[11]), 10, 64)
	system, _ := strconv.ParseInt(string(fields[12]), 10, 64)
	return time.Duration(user+system) * time.Second / ticksPerSecond
}
