package postgres_test

import (
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/posta-tasks/posta/store/postgres"
	"github.com/posta-tasks/posta/task"
)

// TestAKeyThatTheLastReleaseLeftToACancelledTaskIsFree writes keys as the previous release does, which may run
// beside this one.
func TestAKeyThatTheLastReleaseLeftToACancelledTaskIsFree(t *testing.T) {
	t.Parallel()
	url := startDatabase(t).schema()
	s := open(t, postgres.Config{URL: url})
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	list := drafts(4)
	for i := range list {
		list[i].Key = []string{"a", "b", "a", "b"}[i]
	}
	mustAccept(t, s, list[:2])
	if _, err := s.Cancel(t.Context(), []string{list[0].ID, list[1].ID}); err != nil {
		t.Fatal(err)
	}
	_, err = conn.Exec(t.Context(), "INSERT INTO keys (queue, key, id) SELECT queue, key, id FROM finished")
	if err != nil {
		t.Fatal(err)
	}
	answers, err := s.Accept(t.Context(), list[2:3])
	if err != nil || answers[0].Duplicate || answers[0].Refusal != nil || answers[0].Task.State != task.Queued {
		t.Errorf("an accept with the key of a cancelled task: %+v, %v", answers, err)
	}
	changed, err := s.Retry(t.Context(), []string{list[0].ID, list[1].ID})
	if err != nil || changed[0].Made || changed[0].KeyHolder != list[2].ID || !changed[1].Made {
		t.Errorf("a retry of both: %+v, %v", changed, err)
	}
	answers, err = s.Accept(t.Context(), list[3:])
	if err != nil || !answers[0].Duplicate || answers[0].Task.ID != list[1].ID {
		t.Errorf("an accept with the key of the task that was retried: %+v, %v", answers, err)
	}
}
