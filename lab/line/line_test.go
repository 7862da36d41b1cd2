package line_test

import (
	"testing"
	"time"

	"github.com/posta-tasks/posta/internal/testenv"
	"github.com/posta-tasks/posta/lab/line"
)

func TestALineIsAnsweredByTheNextOne(t *testing.T) {
	t.Parallel()
	addr := testenv.Serve(t, testenv.AnswerLines(func(text string) string { return `{"got":` + text + "}\n" }))
	c, err := line.Dial(t.Context(), addr, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var reply struct{ Got struct{ N int } }
	if text, err := c.Ask(&reply, `{"n":%d}`, 7); err != nil || reply.Got.N != 7 || string(text) != `{"got":{"n":7}}`+"\n" {
		t.Errorf("%q, %+v, %v", text, reply, err)
	}
	if _, err := c.Ask(&reply, "no JSON"); err == nil {
		t.Error("a reply that is no JSON is no error")
	}
}
