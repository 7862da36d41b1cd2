package cli

import (
	"strings"
	"testing"
)

// TestARunWhoseConnectionIsLostEndsAsUnreachable ends the connection under a task. The task is in no list, so none is named.
func TestARunWhoseConnectionIsLostEndsAsUnreachable(t *testing.T) {
	t.Parallel()
	node := answering(t, func(c *fakeConn) { c.next() })
	got := typeIn(t, "", nil, "run", "upper", "hola", "--to", node.addr)
	if got.code != 3 || strings.Contains(got.stderr, "posta list") || !strings.Contains(got.stderr, "posta: hint: it may have run") {
		t.Errorf("exit code %d, %s", got.code, got.stderr)
	}
}
