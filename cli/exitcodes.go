package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// verbCodes has the exit codes of a verb, except those of signals.
type verbCodes struct {
	verb  string
	codes []int
}

// exitTable lists the exit codes of each verb. A test compares it with the scripts in testdata.
func exitTable() []verbCodes {
	sends := []int{exitOK, exitFailed, exitUsage, exitUnreachable}
	keys := append(sends[:len(sends):len(sends)], exitConfig)
	local := []int{exitOK, exitUsage}
	return []verbCodes{
		{"up", []int{exitOK, exitUsage, exitAddress, exitConfig}},
		{"node", []int{exitOK, exitUsage, exitUnreachable, exitAddress, exitConfig}},
		{"balancer run", []int{exitOK, exitUsage, exitAddress, exitConfig}},
		{"balancer nginx", local},
		{"balancer haproxy", local},
		{"actions check", []int{exitOK, exitUsage, exitConfig}},
		{"actions list", sends},
		{"backup", []int{exitOK, exitFailed, exitUsage, exitConfig}},
		{"copy", []int{exitOK, exitFailed, exitUsage, exitConfig}},
		{"doctor", []int{exitOK, exitFailed, exitUsage}},
		{"run", sends}, {"enqueue", sends}, {"demo", sends}, {"bench", sends},
		{"get", sends},
		{"wait", append(sends[:len(sends):len(sends)], exitUnfinished)},
		{"watch", sends}, {"cancel", sends}, {"retry", sends}, {"list", sends}, {"failures", sends}, {"top", sends}, {"queues", sends}, {"nodes", sends},
		{"pause", sends}, {"resume", sends}, {"workers", sends}, {"workers quiet", sends},
		{"audit", keys}, {"key create", keys}, {"key list", keys}, {"key revoke", keys}, {"pass create", []int{exitOK, exitUsage, exitConfig}},
		{"version", local}, {"help", local}, {"completion", local},
	}
}

// newExitCodes returns a page of help, not a verb: `posta help exit-codes`.
func newExitCodes() *cobra.Command {
	var page strings.Builder
	page.WriteString(`The exit codes of posta:

    0  success; a server drained and stopped on request
    1  a task failed (its result has "ok":false), was cancelled or was refused; doctor
       found something wrong; a backup or a copy was not made
    2  the command line is wrong
    3  nothing answers at the address, or the connection was lost; the database of a
       node did not answer in time
    4  a server cannot listen on its address: it is in use, or not an address of this machine
    5  a durable task was not finished in time; the task continues
   78  a server or a copy refuses its configuration, for example an address that others
       can reach without a token, or a store that cannot be opened
  130  stopped by SIGINT (Ctrl-C); a server only at the second one
  143  stopped by SIGTERM; a server only at the second one

The exit codes of each verb, besides 130 and 143:

`)
	for _, v := range exitTable() {
		var codes []string
		for _, code := range v.codes {
			codes = append(codes, fmt.Sprint(code))
		}
		fmt.Fprintf(&page, "  %-16s  %s\n", v.verb, strings.Join(codes, " "))
	}
	return &cobra.Command{
		Use:   "exit-codes",
		Short: "What the exit codes mean",
		Long:  strings.TrimSuffix(page.String(), "\n"),
	}
}
