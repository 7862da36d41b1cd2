package postgres_test

import (
	"testing"
	"time"

	"github.com/posta-tasks/posta/store/postgres"
)

func TestACheckTellsOfASchemaAndMakesNone(t *testing.T) {
	t.Parallel()
	url := startDatabase(t).schema()
	for range 2 {
		version, ahead, err := postgres.Check(t.Context(), url)
		if version != 0 || ahead.Abs() > time.Minute || err != nil {
			t.Fatalf("of an empty database: version %d, %s ahead, %v", version, ahead, err)
		}
	}
	open(t, postgres.Config{URL: url})
	if version, _, err := postgres.Check(t.Context(), url); version == 0 || err != nil {
		t.Errorf("with a store in it: version %d, %v", version, err)
	}
	if _, _, err := postgres.Check(t.Context(), "postgres://u@127.0.0.1:1/d"); err == nil {
		t.Error("a database that is not there answers")
	}
}
