package tasks

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/posta-tasks/posta/internal/testenv"
	"github.com/posta-tasks/posta/lab/bench/load"
)

// listen answers each line of each connection with what reply makes of it, until the test ends.
func listen(t *testing.T, reply func(line string) string) string {
	return testenv.Serve(t, testenv.AnswerLines(func(line string) string { return reply(line) + "\n" }))
}

const id = "01M8A8NMKBBFEJM89SNQ71SWFB"

// answer plays a Posta: it accepts everything and says what a test wants of queues and records.
func answer(queues, record string) func(string) string {
	return func(line string) string {
		switch {
		case strings.Contains(line, `"op":"enqueue"`):
			return `{"id":1,"status":"queued","task":"` + id + `"}`
		case strings.Contains(line, `"op":"queues"`):
			return `{"id":null,"status":"done","result":{"ok":true,"queues":[` + queues + `]}}`
		default:
			return record
		}
	}
}

// A round counts only what was acknowledged, recorded and right.
func TestMeasureCountsOnlyWhatIsRecorded(t *testing.T) {
	t.Parallel()
	idle := `{"queue":"default","scheduled":0,"queued":0,"running":0,"failed":0}`
	right := `{"id":null,"status":"done","attempt":1,"result":{"ok":true,"data":"HOLA"}}`
	for name, test := range map[string]struct {
		reply func(string) string
		want  string
	}{
		"right":         {answer(idle, right), ""},
		"failed":        {answer(strings.Replace(idle, `"failed":0`, `"failed":3`, 1), right), "3 tasks have failed"},
		"wrong result":  {answer(idle, strings.Replace(right, "HOLA", "hola", 1)), "is recorded as"},
		"never started": {answer(idle, strings.Replace(right, `"attempt":1`, `"attempt":0`, 1)), "is recorded as"},
		"unknown":       {answer(idle, `{"id":null,"status":"error","code":"not_found"}`), "not_found"},
		"refused":       {func(string) string { return `{"id":1,"status":"error","code":"overloaded"}` }, "overloaded"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			to := Target{Addrs: []string{listen(t, test.reply)}}
			r := Round{Shape: load.Shape{Connections: 2, Depth: 3}, Queue: Worked, For: time.Minute, Most: 10}
			got, err := Measure(t.Context(), to, r)
			switch {
			case test.want == "" && (err != nil || got.Tasks != 20 || got.Rate <= 0):
				t.Errorf("got %+v, %v", got, err)
			case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

// What was acknowledged and is not in the list is found out, and so is what is listed twice.
func TestVerifyFindsWhatIsMissing(t *testing.T) {
	t.Parallel()
	done := `{"id":null,"status":"done","attempt":1,"result":{"ok":true,"data":"HOLA","tasks":[%s]}}`
	one := `{"task":"` + id + `","status":"done"}`
	for listed, want := range map[string]string{
		"":              "is not in the list",
		one:             "2000 tasks were acknowledged, 1 are listed",
		one + "," + one: "listed twice",
	} {
		to := Target{Addrs: []string{listen(t, answer("", fmt.Sprintf(done, listed)))}}
		if err := Verify(t.Context(), to); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

func TestSteadyMeasuresTheTimeToTheResult(t *testing.T) {
	t.Parallel()
	to := Target{Addrs: []string{listen(t, func(line string) string {
		var id int
		if _, err := fmt.Sscanf(line, `{"id":%d,`, &id); err != nil {
			return err.Error()
		}
		return fmt.Sprintf(`{"id":%d,"status":"queued","task":"x"}`+"\n"+
			`{"id":%d,"status":"done","task":"x","result":{"ok":true,"data":"HOLA"},"attempt":1}`, id, id)
	})}}
	got, err := Steady(t.Context(), to, 100, 100*time.Millisecond)
	if err != nil || got.Tasks != 10 || got.P50 <= 0 || got.P99 < got.P50 {
		t.Errorf("got %+v, %v", got, err)
	}
}
