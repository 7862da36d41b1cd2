package durable

import (
	"testing"
	"time"

	"github.com/posta-tasks/posta/store"
)

func TestARateIsTakenOverTheLatestWindows(t *testing.T) {
	t.Parallel()
	var r rates
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	after := func(s int) time.Time { return start.Add(time.Duration(s) * time.Second) }
	mail := func(accepted, finished int64) store.Queue {
		return store.Queue{Name: "mail", Accepted: accepted, Finished: finished}
	}
	want := func(at time.Time, q store.Queue, in, out float64) {
		t.Helper()
		if i, o := r.Of(at, q); i != in || o != out {
			t.Errorf("%g in and %g out a second, want %g and %g", i, o, in, out)
		}
	}
	want(start, mail(100, 50), 0, 0)
	r.Note(after(0), []store.Queue{mail(100, 50)})
	r.Note(after(5), []store.Queue{mail(900, 900)}) // too soon
	want(after(10), mail(200, 100), 10, 5)
	r.Note(after(10), []store.Queue{mail(200, 100)})
	r.Note(after(20), []store.Queue{mail(200, 200)})
	want(after(30), mail(200, 300), 0, 10)
	want(after(30), mail(20, 40), 1, 2) // it was forgotten meanwhile
}
