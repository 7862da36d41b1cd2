package main

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// machine is where the figures were measured; without it they mean nothing.
type machine struct {
	Cores  int    `json:"cores"`
	CPU    string `json:"cpu"`
	Go     string `json:"go"`
	Kernel string `json:"kernel"`
	// Load is the load average when the run began: other programs' share of the machine.
	Load string `json:"load"`
}

// thisMachine reads what the system tells; what it does not tell is "unknown".
func thisMachine() machine {
	return machine{
		Cores: runtime.NumCPU(), CPU: cpuModel(), Go: runtime.Version(),
		Kernel: runtime.GOOS + " " + firstWords("/proc/sys/kernel/osrelease", 1), Load: firstWords("/proc/loadavg", 3),
	}
}

func (m machine) String() string {
	return fmt.Sprintf("%d cores, %s, %s, %s, load average %s at the beginning", m.Cores, m.CPU, m.Go, m.Kernel, m.Load)
}

func cpuModel() string {
	info, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(info)) {
		name, value, _ := strings.Cut(line, ":")
		if strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown " + runtime.GOARCH
}

func firstWords(path string, n int) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return "unknown"
	}
	words := strings.Fields(string(text))
	return strings.Join(words[:min(n, len(words))], " ")
}

// memory returns a field of /proc/PID/status in bytes, such as VmRSS, the resident memory, or VmHWM, its peak.
func memory(pid int, field string) (int64, error) {
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

// cpuTime is the processor time that a process has used, to the clock tick (10 ms); 0 when unknown.
func cpuTime(pid int) time.Duration {
	const ticksPerSecond = 100 // what Linux reports to programs, on every architecture
	if pid == 0 {
		return 0
	}
	stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	// The second field is the program's name in parentheses and may hold blanks, so count from its end.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.ParseInt(string(fields[11]), 10, 64)
	system, _ := strconv.ParseInt(string(fields[12]), 10, 64)
	return time.Duration(user+system) * time.Second / ticksPerSecond
}
