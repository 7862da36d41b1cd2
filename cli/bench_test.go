package cli

import (
	"slices"
	"strings"
	"testing"
)

func TestABenchMatchesRepliesOutOfOrder(t *testing.T) {
	t.Parallel()
	fake := answering(t, func(c *fakeConn) {
		var ids []string
		for c.next() {
			if ids = append(ids, string(c.id)); len(ids) == 4 {
				slices.Reverse(ids)
				for _, id := range ids {
					c.say(`{"id":%s,"status":"done","result":{"ok":true}}`, id)
				}
				ids = nil
			}
		}
	})
	got := typeIn(t, "", nil, "bench", "--to", fake.addr, "-c", "1", "-P", "4", "-n", "400", "--json")
	if got.code != exitOK || !strings.Contains(got.stdout, `"tasks":400`) {
		t.Errorf("%+v", got)
	}
}

func TestABenchNoticesWhatIsNoReplyOfIts(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		reply string
		code  int
		want  string
	}{
		{`{"id":99,"status":"done","result":{"ok":true}}`, exitFailed, "which was not sent"},
		{`HTTP/1.1 400 Bad Request`, exitUnreachable, "is that a posta?"},
		{`{"id":null,"status":"error","code":"overloaded","error":"too many connections","retry_after":1}`, exitFailed, "posta: error: overloaded: too many connections"},
		{`{"id":null,"status":"goaway","code":"draining","retry_after":0}`, exitFailed, "draining"},
	} {
		fake := answering(t, func(conn *fakeConn) {
			conn.next()
			conn.say("%s", c.reply)
			conn.silent()
		})
		got := typeIn(t, "", nil, "bench", "--to", fake.addr, "-c", "1", "-n", "1")
		if got.code != c.code || !strings.Contains(got.stderr, c.want) {
			t.Errorf("reply %s: code %d, stderr %q; want %d and %q", c.reply, got.code, got.stderr, c.code, c.want)
		}
	}
}
