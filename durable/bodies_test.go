package durable

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/posta-tasks/posta/blob"
	"github.com/posta-tasks/posta/task"
)

const (
	bodyID  = "01J5ZZZZZZZZZZZZZZZZZZZZZZ"
	otherID = "01J6ZZZZZZZZZZZZZZZZZZZZZZ"
)

func bodiesInDir(t *testing.T) bodies {
	t.Helper()
	dir, err := blob.OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() })
	return bodies{Blobs: dir}
}

// unsigned is a storage that cannot sign.
type unsigned struct{ blob.Blobs }

func (unsigned) SignPut(context.Context, blob.Key, time.Duration) (string, error) {
	return "", errors.New("no credentials of maria")
}

func (unsigned) SignGet(context.Context, blob.Key, time.Duration) (string, error) {
	return "", errors.New("no credentials of maria")
}

func TestWhyNoURLCouldBeSignedIsForTheLog(t *testing.T) {
	t.Parallel()
	var said strings.Builder
	k := bodies{Blobs: unsigned{}, Logger: slog.New(slog.NewTextHandler(&said, nil))}
	_, put := k.SignPut(t.Context(), bodyID)
	_, get := k.SignGet(t.Context(), blob.Payload(bodyID), task.Body{Size: 9, SHA256: "ab"})
	for _, refusal := range []*task.Error{put, get} {
		if refusal == nil || refusal.Code != task.Unavailable || strings.Contains(refusal.Error(), "credentials") {
			t.Errorf("the client is told %v", refusal)
		}
	}
	if strings.Count(said.String(), "credentials") != 2 {
		t.Errorf("the log says %q", said.String())
	}
}

func TestABodyThatWasKeptIsFoundUntilItIsDeleted(t *testing.T) {
	t.Parallel()
	k := bodiesInDir(t)
	payload, refusal := k.PutPayload(t.Context(), bodyID, strings.NewReader(`"payload"`))
	if refusal != nil || payload.Size != 9 || !payload.IsBlob() {
		t.Fatal(payload, refusal)
	}
	one := task.Task{ID: bodyID, Fence: 3, Payload: payload}
	var err error
	if one.Result, err = k.PutResult(t.Context(), &one, []byte(`{"ok":true}`)); err != nil {
		t.Fatal(err)
	}
	if refusal := k.CheckUpload(t.Context(), &task.Upload{Task: bodyID, Body: payload}); refusal != nil {
		t.Error(refusal)
	}
	if text, err := k.ReadPayload(t.Context(), &one); err != nil || string(text) != `"payload"` {
		t.Error(string(text), err)
	}
	stream, size, refusal := k.Open(t.Context(), blob.Result(bodyID, 3), one.Result)
	if refusal != nil || size != 11 {
		t.Fatal(size, refusal)
	}
	defer stream.Close()
	if text, err := io.ReadAll(stream); err != nil || string(text) != `{"ok":true}` {
		t.Error(string(text), err)
	}
	shown := one.Result
	if k.Show(t.Context(), blob.Result(bodyID, 3), &shown, 10); shown.Inline != nil {
		t.Error("a result that is larger than may be shown is shown")
	}
	if k.Show(t.Context(), blob.Result(bodyID, 3), &shown, 11); string(shown.Inline) != `{"ok":true}` {
		t.Errorf("the result is shown as %s", shown.Inline)
	}
	if err := k.Delete(t.Context(), []task.Task{one, {ID: otherID}}); err != nil {
		t.Fatal(err)
	}
	var failure *bodyError
	if _, err := k.ReadPayload(t.Context(), &one); !errors.As(err, &failure) || !failure.Final || !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("a payload that is gone: %v", err)
	}
	if refusal := k.CheckUpload(t.Context(), &task.Upload{Task: bodyID, Body: payload}); refusal == nil || refusal.Code != task.InvalidRequest {
		t.Errorf("an upload that is gone: %v", refusal)
	}
}

func TestABodyMayBeTooLarge(t *testing.T) {
	t.Parallel()
	_, refusal := bodiesInDir(t).PutPayload(t.Context(), bodyID, bytes.NewReader(make([]byte, task.BlobBytes+1)))
	if refusal == nil || refusal.Code != task.PayloadTooLarge || refusal.Limit != "67108864 bytes" {
		t.Error(refusal)
	}
}

func TestWithoutStorageOnlyRowsHoldBodies(t *testing.T) {
	t.Parallel()
	var k bodies
	if k.Most() != task.InlineBytes || k.Check() == nil || k.Check().Code != task.Unavailable {
		t.Error(k.Most(), k.Check())
	}
	if _, refusal := k.PutPayload(t.Context(), bodyID, strings.NewReader("1")); refusal == nil || refusal.Code != task.PayloadTooLarge {
		t.Error(refusal)
	}
	stream, size, refusal := k.Open(t.Context(), blob.Payload(bodyID), task.Body{Inline: []byte("12")})
	if refusal != nil || size != 2 {
		t.Fatal(size, refusal)
	}
	stream.Close()
	large := task.Body{Size: 1, SHA256: "x"}
	if _, _, refusal := k.Open(t.Context(), blob.Payload(bodyID), large); refusal == nil || refusal.Code != task.Unavailable {
		t.Error(refusal)
	}
	if k.Show(t.Context(), blob.Payload(bodyID), &large, 10); large.Inline != nil {
		t.Error("it shows a body from nowhere")
	}
	if err := k.Delete(t.Context(), []task.Task{{ID: bodyID, Payload: large}}); err != nil {
		t.Error(err)
	}
}
