package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestARunThatBrokeAPromiseIsJudgedAgainWithAnError(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	judge := func(drained string) (string, error) {
		if err := os.WriteFile(filepath.Join(dir, "run.json"), []byte(`{"seed":7,"drained":`+drained+`}`), 0o600); err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		err := run(t.Context(), []string{"--check", dir}, &out)
		return out.String(), err
	}
	if page, err := judge("false"); !errors.Is(err, errBroken) || !strings.Contains(page, "1 violations") {
		t.Errorf("%v\n%s", err, page)
	}
	if page, err := judge("true"); err != nil || !strings.Contains(page, "all 15 promises are kept") {
		t.Errorf("%v\n%s", err, page)
	}
}

func TestAMutantWithoutATrialIsAnError(t *testing.T) {
	t.Parallel()
	args := []string{"--mutants", "--mutant", "unheard-of", "--binary", "posta", "--keep", t.TempDir()}
	if err := run(t.Context(), args, &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), "unheard-of") {
		t.Errorf("%v", err)
	}
}
