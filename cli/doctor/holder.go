package doctor

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// holder returns the id and the name of the process that listens on a port. It reads /proc, so it returns "" on
// other systems than Linux, and for processes of other users.
func holder(port int) string {
	sockets := map[string]bool{}
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		listening(table, port, sockets)
	}
	if len(sockets) == 0 {
		return ""
	}
	links, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, link := range links {
		to, err := os.Readlink(link)
		if err != nil || !sockets[to] {
			continue
		}
		process := filepath.Dir(filepath.Dir(link))
		pid, _ := strconv.Atoi(filepath.Base(process))
		name, _ := os.ReadFile(filepath.Join(process, "comm"))
		return fmt.Sprintf("process %d (%s)", pid, strings.TrimSpace(string(name)))
	}
	return ""
}

// listening adds the sockets of a table that listen on a port to a set, as /proc/PID/fd names them.
func listening(table string, port int, to map[string]bool) {
	file, err := os.Open(table)
	if err != nil {
		return
	}
	defer file.Close()
	const listens = "0A"
	for lines := bufio.NewScanner(file); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) < 10 || fields[3] != listens {
			continue
		}
		_, hex, _ := strings.Cut(fields[1], ":")
		if n, err := strconv.ParseUint(hex, 16, 16); err == nil && int(n) == port {
			to["socket:["+fields[9]+"]"] = true
		}
	}
}
