package lab

import (
	"fmt"
	"os"
	"runtime"
	"strings"
)

// Machine describes the machine of the measurement. Figures mean nothing without it.
type Machine struct {
	Cores  int    `json:"cores"`
	CPU    string `json:"cpu"`
	Go     string `json:"go"`
	Kernel string `json:"kernel"`
	// Load is the load average at the start of the run, caused by other programs.
	Load string `json:"load"`
}

// ThisMachine describes this machine. Unknown values are "unknown".
func ThisMachine() Machine {
	return Machine{
		Cores: runtime.NumCPU(), CPU: cpuModel(), Go: runtime.Version(),
		Kernel: runtime.GOOS + " " + firstWords("/proc/sys/kernel/osrelease", 1), Load: firstWords("/proc/loadavg", 3),
	}
}

// String returns one line.
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
