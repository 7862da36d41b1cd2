package task_test

import (
	"errors"
	"fmt"
	"regexp"
	"testing"

	"github.com/posta-tasks/posta/task"
)

func TestARefusalReadsAsItsCodeAndItsMessage(t *testing.T) {
	t.Parallel()
	e := task.Refuse(task.Overloaded, "all %d are taken", 4)
	if got, want := e.Error(), "overloaded: all 4 are taken"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	e.Detail = "since noon"
	if got, want := e.Error(), "overloaded: all 4 are taken (since noon)"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if e := task.RefuseField(task.InvalidRequest, "id", "no"); e.Field != "id" || e.Message != "no" {
		t.Errorf("%+v", e)
	}
}

func TestTheCodeOfAnErrorIsThatOfTheRefusalInsideIt(t *testing.T) {
	t.Parallel()
	refusal := task.Refuse(task.NotFound, "no such task")
	if got := task.CodeOf(fmt.Errorf("get: %w", refusal)); got != task.NotFound {
		t.Errorf("a wrapped refusal has the code %s", got)
	}
	if got := task.CodeOf(errors.New("disk full")); got != task.Internal {
		t.Errorf("an error without a code has the code %s", got)
	}
}

func TestCodesAreStableWordsAndNoneIsThereTwice(t *testing.T) {
	t.Parallel()
	word := regexp.MustCompile(`^[a-z]+(_[a-z]+)*$`)
	seen := map[task.Code]bool{}
	for _, code := range task.Codes() {
		if seen[code] || !word.MatchString(string(code)) {
			t.Errorf("the code %q is there twice or no snake_case", code)
		}
		seen[code] = true
	}
	if len(seen) != 20 {
		t.Errorf("%d codes are listed, the protocol has 20", len(seen))
	}
}
