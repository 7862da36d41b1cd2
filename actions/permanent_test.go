package actions_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/posta-tasks/posta/actions"
)

func TestAPermanentErrorKeepsItsTextAndIsFoundInsideOthers(t *testing.T) {
	t.Parallel()
	cause := errors.New("no such cheese")
	err := fmt.Errorf("the shop: %w", actions.Permanent(cause))
	if !actions.IsPermanent(err) || !errors.Is(err, cause) || err.Error() != "the shop: no such cheese" {
		t.Errorf("%v", err)
	}
	if actions.IsPermanent(cause) || actions.IsPermanent(nil) || actions.Permanent(nil) != nil {
		t.Error("what was not marked is permanent")
	}
}

func TestAReportReachesItsListener(t *testing.T) {
	t.Parallel()
	(*actions.Call)(nil).Report(1, "nobody")
	(&actions.Call{}).Report(1, "nobody")
	reported := ""
	call := actions.Call{OnReport: func(percent float64, message string) { reported = fmt.Sprint(percent, message) }}
	call.Report(50, "half")
	if reported != "50half" {
		t.Errorf("reported %q", reported)
	}
}

func TestBuiltInActionsFailForGoodOnAMistypedPayload(t *testing.T) {
	t.Parallel()
	payloads := map[string]string{"sleep": `"x"`, "fib": "1.5"}
	for _, action := range actions.Builtin() {
		payload, strict := payloads[action.Name]
		if !strict {
			continue
		}
		if _, err := action.Append(t.Context(), &actions.Call{Payload: []byte(payload)}, nil); !actions.IsPermanent(err) {
			t.Errorf("%s of %s: %v is not permanent", action.Name, payload, err)
		}
	}
}
