package chaos

import (
	"slices"
	"strings"

	"github.com/posta-tasks/posta/internal/fail"
)

// Points returns the failpoints that a load on a node with a store in a file reaches often, and those of its start. The others
// need blob storage, backups, drains or old tasks.
func Points() []string {
	elsewhere := []string{"blob.", "payload.", "result.", "orphans.", "discard.", "backup.", "drain.", "pause.", "migrate.", "expire.", "reap.",
		"run.loaded", "accept.unused"}
	var names []string
	for _, point := range fail.Points() {
		if !slices.ContainsFunc(elsewhere, func(prefix string) bool { return strings.HasPrefix(point.Name, prefix) }) {
			names = append(names, point.Name)
		}
	}
	return names
}
