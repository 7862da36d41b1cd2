package blob_test

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/posta-tasks/posta/blob"
)

// TestAStreamEndsWellOnlyIfItIsWhatWasPut is about storage that says something else at
// Get than it gives afterwards, which a suite cannot bring about.
func TestAStreamEndsWellOnlyIfItIsWhatWasPut(t *testing.T) {
	t.Parallel()
	const body = "a body of some length"
	meter := blob.Measure(t.Context(), strings.NewReader(body), 100)
	if _, err := io.Copy(io.Discard, meter); err != nil {
		t.Fatal(err)
	}
	broken := errors.New("the disk is broken")
	for what, c := range map[string]struct {
		stored io.Reader
		want   []error
	}{
		"it is":                       {strings.NewReader(body), nil},
		"it comes in drops":           {iotest.OneByteReader(strings.NewReader(body)), nil},
		"it is shorter":               {strings.NewReader(body[1:]), []error{blob.ErrCorrupt}},
		"it is longer":                {strings.NewReader(body + "."), []error{blob.ErrCorrupt}},
		"it is another":               {strings.NewReader(strings.ToUpper(body)), []error{blob.ErrCorrupt}},
		"it breaks at once":           {iotest.ErrReader(broken), []error{blob.ErrUnavailable, broken}},
		"it breaks after a few bytes": {io.MultiReader(strings.NewReader(body[:9]), iotest.ErrReader(broken)), []error{blob.ErrUnavailable, broken}},
		"it breaks after its end":     {io.MultiReader(strings.NewReader(body), iotest.ErrReader(broken)), []error{blob.ErrUnavailable, broken}},
	} {
		got, err := io.ReadAll(blob.Verify(t.Context(), io.NopCloser(c.stored), meter.Sum()))
		for _, want := range c.want {
			if !errors.Is(err, want) {
				t.Errorf("%s: %v, want %v", what, err, want)
			}
		}
		if whole := string(got) == body; whole != (c.want == nil) || whole != (err == nil) {
			t.Errorf("%s: %q, %v", what, got, err)
		}
	}
}

func TestAMeterReportsWhetherItsSourceFailed(t *testing.T) {
	t.Parallel()
	lost := errors.New("the client has gone")
	for what, c := range map[string]struct {
		body  io.Reader
		limit int64
		want  error
	}{
		"a body that fits":    {strings.NewReader("12345"), 5, nil},
		"one that does not":   {strings.NewReader("123456"), 5, blob.ErrTooLarge},
		"one with its client": {iotest.ErrReader(lost), 5, lost},
	} {
		meter := blob.Measure(t.Context(), c.body, c.limit)
		io.Copy(io.Discard, meter)
		if err := meter.Err(); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", what, err, c.want)
		}
	}
}
