package cli

import (
	"strings"
	"testing"
)

// TestTheJudgesKnowWhatAnswersATask passes each judge the lines that it may see.
func TestTheJudgesKnowWhatAnswersATask(t *testing.T) {
	t.Parallel()
	to := &target{Addr: "127.0.0.1:1"}
	for _, c := range []struct{ line, run, accepted, end string }{
		{`{"id":7,"status":"done","result":{"ok":true,"data":1}}`, "7", "7", "7"},
		{`{"id":7,"status":"done","result":{"ok":false,"error":"boom"}}`, "7 boom", "7 boom", "7 boom"},
		{`{"id":7,"status":"queued","task":"01JE"}`, "7", "7", ""},
		{`{"id":7,"status":"done","task":"01JE","result":{"ok":true,"data":1},"attempt":1}`, "7", "7", "7"},
		{`{"id":7,"status":"failed","task":"01JE","error":"boom","code":"action_failed","attempt":5}`, "7 failed: action_failed: boom", "7 failed: action_failed: boom", "7 failed: action_failed: boom"},
		{`{"id":7,"status":"cancelled","task":"01JE","attempt":1}`, "7 cancelled", "7 cancelled", "7 cancelled"},
		{`{"id":7,"status":"error","code":"overloaded","error":"full"}`, "!", "!", "!"},
		{`HTTP/1.1 400`, "!", "!", "!"},
	} {
		for _, judged := range []struct {
			name  string
			judge func([]byte) ([]byte, string, error)
			want  string
		}{{"run", to.Judge, c.run}, {"accepted", to.JudgeAccepted, c.accepted}, {"end", to.JudgeEnd, c.end}} {
			id, fault, err := judged.judge([]byte(c.line))
			got := strings.TrimSpace(string(id) + " " + fault)
			if err != nil {
				got = "!"
			}
			if got != judged.want {
				t.Errorf("%s, %s: %q, want %q", c.line, judged.name, got, judged.want)
			}
		}
	}
}
