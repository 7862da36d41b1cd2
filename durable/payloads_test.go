package durable_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/posta-tasks/posta/blob"
	"github.com/posta-tasks/posta/durable"
	"github.com/posta-tasks/posta/task"
)

// withBlobs gives a node blob storage in a directory of the test.
func withBlobs(t *testing.T) (*blob.Dir, func(*durable.Config)) {
	t.Helper()
	dir, err := blob.OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = dir.Close() })
	return dir, func(c *durable.Config) { c.Blobs = dir }
}

// bodies lists what is in blob storage.
func bodies(t *testing.T, dir *blob.Dir) string {
	t.Helper()
	var list []string
	for found, err := range dir.List(t.Context(), time.Now().Add(100*365*24*time.Hour)) {
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, strings.TrimLeft(found.Key.String(), "0123456789ABCDEFGHJKMNPQRSTVWXYZ"))
	}
	return strings.Join(list, " ")
}

func TestALargePayloadIsABlobAndReachesTheActionWhole(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		dir, blobs := withBlobs(t)
		n := w.node("a", blobs)
		payload := []byte(`"` + strings.Repeat("p", 200_000) + `"`)
		a := n.Accept(t.Context(), []durable.Request{{Action: "length", Payload: payload}})[0]
		if a.Refusal != nil || !a.Task.Payload.IsBlob() {
			t.Fatalf("%+v", a)
		}
		done := w.finished(n, a.Task.ID)
		if got := string(done.Result.Inline); got != `{"ok":true,"data":200002}` {
			t.Errorf("the action saw %s", got)
		}
		stream, size, refusal := n.OpenPayload(t.Context(), done.ID)
		if refusal != nil || size != int64(len(payload)) {
			t.Fatal(size, refusal)
		}
		defer stream.Close()
		if got, err := io.ReadAll(stream); err != nil || !bytes.Equal(got, payload) {
			t.Errorf("the payload comes back as %d bytes, %v", len(got), err)
		}
		if got := bodies(t, dir); got != "/payload" {
			t.Errorf("in the storage are %s", got)
		}
		w.after(25 * time.Hour)
		if got := bodies(t, dir); got != "" || w.get(done.ID).ID != "" {
			t.Errorf("a day later there are still %s", got)
		}
	})
}

func TestALargeResultIsABlobOfItsAttempt(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		dir, blobs := withBlobs(t)
		n := w.node("a", blobs)
		done := w.finished(n, w.accept(n, "large").ID)
		w.wantState(done, "done", 1)
		if !done.Result.IsBlob() || bodies(t, dir) != "/1/result" {
			t.Fatalf("%+v; in the storage are %s", done.Result, bodies(t, dir))
		}
		stream, _, refusal := n.OpenResult(t.Context(), done.ID)
		if refusal != nil {
			t.Fatal(refusal)
		}
		defer stream.Close()
		if got, err := io.ReadAll(stream); err != nil || len(got) != task.InlineBytes+21 {
			t.Errorf("the result comes back as %d bytes, %v", len(got), err)
		}
	})
}

func TestAnUploadBecomesThePayloadOfOneTask(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		_, blobs := withBlobs(t)
		n := w.node("a", blobs)
		up, refusal := n.Upload(t.Context(), strings.NewReader("[1,2,3]"))
		if refusal != nil {
			t.Fatal(refusal)
		}
		a := n.Accept(t.Context(), []durable.Request{{Action: "length", Upload: &up}})[0]
		if a.Refusal != nil || a.Task.ID != up.Task {
			t.Fatalf("%+v", a)
		}
		if got := string(w.finished(n, up.Task).Result.Inline); got != `{"ok":true,"data":7}` {
			t.Errorf("the action saw %s", got)
		}
	})
}

func TestAPayloadThatIsGoneFailsTheTaskAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		dir, blobs := withBlobs(t)
		n := w.node("a", blobs)
		up, _ := n.Upload(t.Context(), strings.NewReader("[1,2,3]"))
		w.finished(n, w.accept(n, "ok").ID)
		if refusal := n.Pause(t.Context(), task.DefaultQueue, true); refusal != nil {
			t.Fatal(refusal)
		}
		n.Accept(t.Context(), []durable.Request{{Action: "length", Upload: &up}})
		if err := dir.Delete(t.Context(), []blob.Key{blob.Payload(up.Task)}); err != nil {
			t.Fatal(err)
		}
		if refusal := n.Pause(t.Context(), task.DefaultQueue, false); refusal != nil {
			t.Fatal(refusal)
		}
		failed := w.finished(n, up.Task)
		w.wantState(failed, "failed", 1)
		if failed.Code != task.BlobUnavailable {
			t.Errorf("it failed with %s: %s", failed.Code, failed.Error)
		}
	})
}

func TestAnUploadThatIsNotThereOrIsAnotherTasksIsRefused(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		dir, blobs := withBlobs(t)
		n := w.node("a", blobs)
		up, _ := n.Upload(t.Context(), strings.NewReader("[1,2,3]"))
		for range 2 { // repeating a request whose answer was lost is no error
			if a := n.Accept(t.Context(), []durable.Request{{Action: "length", Upload: &up}})[0]; a.Refusal != nil || a.Task.ID != up.Task {
				t.Errorf("%+v", a)
			}
		}
		a := n.Accept(t.Context(), []durable.Request{{Action: "other", Upload: &up}})[0]
		if a.Refusal == nil || a.Refusal.Code != task.Conflict || a.Refusal.Task != up.Task {
			t.Errorf("the payload of another task: %+v", a)
		}
		lost, _ := n.Upload(t.Context(), strings.NewReader("[1]"))
		if err := dir.Delete(t.Context(), []blob.Key{blob.Payload(lost.Task)}); err != nil {
			t.Fatal(err)
		}
		if a := n.Accept(t.Context(), []durable.Request{{Action: "length", Upload: &lost}})[0]; a.Refusal == nil || a.Refusal.Code != task.InvalidRequest {
			t.Errorf("an upload that is gone: %+v", a)
		}
		_, refusal := w.node("b").Upload(t.Context(), strings.NewReader("[1]"))
		if refusal == nil || refusal.Code != task.Unavailable || !strings.Contains(refusal.Message, "blob storage") {
			t.Errorf("without blob storage: %v", refusal)
		}
	})
}

func TestAnActionMayOpenItsPayloadAsAStream(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		_, blobs := withBlobs(t)
		n := w.node("a", blobs)
		for _, size := range []int{10, 200_000} { // in the row, and in blob storage
			payload := []byte(`"` + strings.Repeat("p", size) + `"`)
			a := n.Accept(t.Context(), []durable.Request{{Action: "stream", Payload: payload}})[0]
			got := string(w.finished(n, a.Task.ID).Result.Inline)
			if want := fmt.Sprintf(`{"ok":true,"data":"%d read, %t held"}`, size+2, size < 100); got != want {
				t.Errorf("the action saw %s, want %s", got, want)
			}
		}
	})
}

func TestAPayloadOfARequestThatIsADuplicateIsNotKept(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		dir, blobs := withBlobs(t)
		n := w.node("a", blobs)
		payload := []byte(`"` + strings.Repeat("p", 100_000) + `"`)
		for i := range 3 {
			if i == 2 {
				payload[1] = 'q'
			}
			a := n.Accept(t.Context(), []durable.Request{{Action: "length", Payload: payload, Options: task.Options{Key: "k"}}})[0]
			if a.Duplicate != (i == 1) || (a.Refusal != nil) != (i == 2) {
				t.Errorf("request %d: %+v", i, a)
			}
		}
		if got := bodies(t, dir); got != "/payload" {
			t.Errorf("in the storage are %s", got)
		}
	})
}

func TestBodiesWithoutARowAreCollectedAfterADayAndNoOthers(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		dir, blobs := withBlobs(t)
		n := w.node("a", blobs, func(c *durable.Config) {
			c.Now = func() time.Time { return time.Now().Add(100 * 365 * 24 * time.Hour) } // files are as old as the real clock says
		})
		if _, refusal := n.Upload(t.Context(), strings.NewReader("[1,2,3]")); refusal != nil {
			t.Fatal(refusal)
		}
		if got := bodies(t, dir); got != "/payload" {
			t.Errorf("in the storage are %s", got)
		}
		done := w.finished(n, n.Accept(t.Context(), []durable.Request{{
			Action: "length", Payload: []byte(`"` + strings.Repeat("p", 200_000) + `"`),
		}})[0].Task.ID)
		w.after(3 * time.Hour)
		if got := bodies(t, dir); got != "/payload" {
			t.Errorf("of an orphan and the body of a task there are left: %s", got)
		}
		if stream, _, refusal := n.OpenPayload(t.Context(), done.ID); refusal != nil {
			t.Error(refusal)
		} else {
			stream.Close()
		}
	})
}

// loadedBlobs call what a test does before they fail to give a payload for the first time.
type loadedBlobs struct {
	blob.Blobs
	first func()
}

func (b *loadedBlobs) Get(ctx context.Context, key blob.Key, want blob.Sum) (io.ReadCloser, error) {
	if first := b.first; first != nil {
		b.first = nil
		first()
		return nil, blob.ErrUnavailable
	}
	return b.Blobs.Get(ctx, key, want)
}

func TestAPayloadThatCannotBeReadIsNoAttemptOfATaskThatMayNotBeEntered(t *testing.T) {
	for name, paused := range map[string]bool{"its queue is paused": true, "it may be entered": false} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				dir, blobs := withBlobs(t)
				reads := &loadedBlobs{Blobs: dir}
				n := w.node("a", blobs, func(c *durable.Config) { c.Blobs = reads })
				reads.first = func() {
					if refusal := n.Pause(context.Background(), task.DefaultQueue, paused); refusal != nil {
						t.Error(refusal)
					}
				}
				a := n.Accept(t.Context(), []durable.Request{{Action: "length", Payload: []byte(`"` + strings.Repeat("p", 200_000) + `"`)}})[0]
				w.after(time.Second)
				got := w.get(a.Task.ID)
				if !paused {
					w.wantState(got, task.Scheduled, 1)
					w.wantState(w.finished(n, a.Task.ID), task.Done, 2)
					return
				}
				w.wantState(got, task.Queued, 0)
				if states(got) != "queued" || got.Failures != 0 {
					t.Errorf("after %d failures: %s", got.Failures, states(got))
				}
				if refusal := n.Pause(t.Context(), task.DefaultQueue, false); refusal != nil {
					t.Fatal(refusal)
				}
				w.wantState(w.finished(n, a.Task.ID), task.Done, 1)
			})
		})
	}
}
