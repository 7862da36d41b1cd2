package chaos_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/posta-tasks/posta/internal/testenv"
	"github.com/posta-tasks/posta/lab/build"
	"github.com/posta-tasks/posta/lab/chaos"
)

// TestANodeThatIsKilledAndPausedKeepsItsPromises is make chaos in short. Its seed is always the
// same; what is between the faults is not.
func TestANodeThatIsKilledAndPausedKeepsItsPromises(t *testing.T) {
	t.Parallel()
	testenv.NeedTime(t, 45*time.Second)
	testenv.NeedServer(t, "python3", "node")
	var out bytes.Buffer
	config := chaos.Config{
		Binary: build.ForTest(t), Dir: t.TempDir(), Seed: 11, Tasks: 600, Poison: 1, Kills: 6, Pauses: 1, Restarts: 1, Points: chaos.Points(),
		Every: 300 * time.Millisecond, Workers: true,
	}
	verdict, err := chaos.Run(t.Context(), config, &out)
	t.Log(out.String())
	if err != nil {
		t.Fatal(err)
	}
	if len(verdict.Violations) > 0 {
		t.Error("promises were broken")
	}
	c := verdict.Counts
	if c.Deaths < config.Kills+config.Restarts || c.Acknowledged < config.Tasks/6 || c.Crashed < config.Poison || c.Executions < config.Tasks/6 {
		t.Errorf("the run proves little: %+v", c)
	}
	again := judge(t, config.Dir)
	if first := out.String(); !strings.HasSuffix(first, again) {
		t.Errorf("judged again, the run is another one:\n%s", again)
	}
}

// judge checks a run from its files.
func judge(t *testing.T, dir string) string {
	t.Helper()
	var out bytes.Buffer
	if _, err := chaos.Judge(dir, &out); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestARunThatLostATaskIsFoundOutWhenItIsJudgedAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"run.json": `{"seed":7,"drained":true}`,
		"clients.jsonl": `{"at":1,"id":1,"kind":"invoke","ask":{"op":"enqueue","action":"upper","queue":"q","nonce":"a"}}` + "\n" +
			`{"at":2,"id":1,"kind":"ok","reply":{"status":"queued","task":"t"}}` + "\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	page := judge(t, dir)
	for _, want := range []string{"seed                   7", "lost                   1", "1 violations", "accepted is never lost: t was answered"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not say %q:\n%s", want, page)
		}
	}
}
