package blob_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/posta-tasks/posta/blob"
	"github.com/posta-tasks/posta/blob/blobtest"
)

// farAhead is later than anything that a test does.
func farAhead() time.Time { return time.Now().AddDate(1, 0, 0) }

func TestAKeyIsReadAsItIsWritten(t *testing.T) {
	t.Parallel()
	task := blobtest.ID(7)
	for key, path := range map[blob.Key]string{
		blob.Payload(task):            task + "/payload",
		blob.Result(task, 1):          task + "/1/result",
		blob.Result(task, 1234567890): task + "/1234567890/result",
	} {
		if key.String() != path {
			t.Errorf("%#v is %s, want %s", key, key, path)
		}
		if got, err := blob.ParseKey(path); got != key || err != nil {
			t.Errorf("%s is %#v, %v", path, got, err)
		}
	}
}

func TestOnlyWhatAKeyGivesIsAKey(t *testing.T) {
	t.Parallel()
	for _, rest := range []string{
		"", "/", "/payload/", "/Payload", "/result", "//result", "/0/result", "/01/result", "/+1/result", "/-1/result", "/1/payload",
		"/1/result/", "/1/1/result", "/99999999999999999999/result", "/x/result", "/1", "/../payload", "0/payload",
	} {
		if key, err := blob.ParseKey(blobtest.ID(1) + rest); !errors.Is(err, blob.ErrKey) {
			t.Errorf("%q is %#v, %v", rest, key, err)
		}
	}
	if _, err := blob.ParseKey(strings.Repeat("x", 1<<10)); len(err.Error()) > 200 {
		t.Errorf("the refusal has %d characters", len(err.Error()))
	}
}

func FuzzParseKey(f *testing.F) {
	f.Add(blobtest.ID(1) + "/payload")
	f.Add(blobtest.ID(1) + "/12/result")
	f.Add("../../etc/passwd")
	f.Fuzz(func(t *testing.T, path string) {
		key, err := blob.ParseKey(path)
		if err == nil && (key.String() != path || key.Check() != nil || strings.Contains(path, ".")) {
			t.Errorf("%q was taken for %#v", path, key)
		}
	})
}
