package fail

import (
	"strings"
	"testing"
	"time"
)

func TestOrdersAreReadAsTheyAreWritten(t *testing.T) {
	t.Parallel()
	got, err := parse("accept.committed=kill; claim.committed=kill@3;run.launched=pause:2s;blob.put=error@1;record.asked=pause:1ms@2;")
	want := map[string]order{
		"accept.committed": {kind: kill},
		"claim.committed":  {kind: kill, nth: 3},
		"run.launched":     {kind: pause, pause: 2 * time.Second},
		"blob.put":         {kind: fails, nth: 1},
		"record.asked":     {kind: pause, pause: time.Millisecond, nth: 2},
	}
	if err != nil || len(got) != len(want) {
		t.Fatalf("got %v, %v", got, err)
	}
	for name, o := range want {
		if got[name] != o {
			t.Errorf("%s: got %+v, want %+v", name, got[name], o)
		}
	}
	if got, err := parse(""); err != nil || len(got) != 0 {
		t.Errorf("nothing is %v, %v", got, err)
	}
}

func TestAWrongOrderIsRefusedByName(t *testing.T) {
	t.Parallel()
	for text, says := range map[string]string{
		"accept.comitted=kill":                 `no point "accept.comitted"; there are: open.locked`,
		"kill":                                 `no point "kill"`,
		"accept.committed":                     "accept.committed: what happens is kill",
		"accept.committed=":                    "what happens is kill",
		"accept.committed=die":                 "what happens is kill",
		"accept.committed=kill@0":              "N being 1 or more",
		"accept.committed=kill@x":              "N being 1 or more",
		"accept.committed=kill:1s":             "what happens is kill",
		"accept.committed=pause":               "what happens is kill",
		"accept.committed=pause:2":             "what happens is kill",
		"accept.committed=pause:2h":            "at most an hour",
		"accept.committed=error":               "nothing can fail at this point",
		"line.read=kill;line.read=pause:1s@20": "line.read is there twice",
	} {
		if _, err := parse(text); err == nil || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), PointsVariable) {
			t.Errorf("%s: %v, want %q", text, err, says)
		}
	}
}
