package lab

import (
	"fmt"
	"os"
	"runtime"
	"strings"
)

// Machine is where the figures were measured; without it they mean nothing.
type Machine struct {
	Cores  int    `json:"cores"`
	CPU    string `json:"cpu"`
	Go     string `json:"go"`
	Kernel string `json:"kernel"`
	// Load is the load average when the run began: other programs' share of the machine.
	Load string `json:"load"`
}

// ThisMachine reads what the system tells; what it does not tell is "unknown".
func ThisMachine() Machine {
	return Machine{
		Cores: runtime.NumCPU(), CPU: cpuModel(), Go: runtime.Version(),
		Kernel: runtime.GOOS + " " + firstWords("/proc/sys/kernel/osrelease", 1), Load: firstWords("/proc/loadavg", 3),
	}
}

// String is one line.
func (m Machine) String() string {
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
