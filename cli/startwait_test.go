package cli

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

var (
	errAway  = errors.New("connection refused")
	errWrong = errors.New("wrong password")
)

// opener opens as the errors say, one after the other; the last one stays.
type opener struct {
	errs  []error
	tries int
	log   strings.Builder
}

func (o *opener) part() startPart {
	return startPart{
		Name: "the store",
		Open: func(context.Context) error {
			err := o.errs[min(o.tries, len(o.errs)-1)]
			o.tries++
			return err
		},
		Passes: func(err error) bool { return errors.Is(err, errAway) },
		Logger: slog.New(slog.NewTextHandler(&o.log, nil)),
	}
}

func (o *opener) logged() int {
	return strings.Count(o.log.String(), "waiting for what this node needs")
}

func TestWhatComesLateIsWaitedFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := &opener{errs: []error{errAway, errAway, errAway, nil}}
		if err := openInTime(t.Context(), o.part()); err != nil || o.tries != 4 {
			t.Errorf("%d tries, %v", o.tries, err)
		}
		if !strings.Contains(o.log.String(), "the store") || !strings.Contains(o.log.String(), "is available") || o.logged() != 1 {
			t.Errorf("the log says:\n%s", o.log.String())
		}
	})
}

func TestWhatIsThereIsNotTalkedAbout(t *testing.T) {
	t.Parallel()
	o := &opener{errs: []error{nil}}
	if err := openInTime(t.Context(), o.part()); err != nil || o.log.Len() > 0 {
		t.Errorf("%v, the log says:\n%s", err, o.log.String())
	}
}

func TestWhatDoesNotPassIsRefusedAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o, began := &opener{errs: []error{errAway, errWrong}}, time.Now()
		if err := openInTime(t.Context(), o.part()); !errors.Is(err, errWrong) || startCode(err) != exitConfig || time.Since(began) > time.Second {
			t.Errorf("%v after %s", err, time.Since(began))
		}
	})
}

func TestNoCallerWaitsForever(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o, began := &opener{errs: []error{errAway}}, time.Now()
		err := openInTime(t.Context(), o.part())
		var late *lateError
		if !errors.As(err, &late) || !errors.Is(err, errAway) || !strings.Contains(err.Error(), "1m0s") || startCode(err) != exitUnreachable {
			t.Errorf("%v", err)
		}
		if took := time.Since(began); took < maxStartWait || took > maxStartWait+time.Second {
			t.Errorf("it waited for %s", took)
		}
		if n := o.logged(); n < 10 || n > 14 {
			t.Errorf("the log says %d times that it waits", n)
		}
	})
}

func TestTheWishToStopEndsTheWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 7*time.Second)
		defer cancel()
		o, began := &opener{errs: []error{errAway}}, time.Now()
		if err := openInTime(ctx, o.part()); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != 7*time.Second {
			t.Errorf("%v after %s", err, time.Since(began))
		}
	})
}
