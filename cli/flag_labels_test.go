package cli

import (
	"testing"
	"time"
)

func TestALabelHasANameAndAValue(t *testing.T) {
	t.Parallel()
	var labels labelsFlag
	for _, text := range []string{"b=2", "a=x=y,z", "c="} {
		if err := labels.Set(text); err != nil {
			t.Error(err)
		}
	}
	if got := labels.String(); got != "a=x=y,z b=2 c=" {
		t.Errorf("the labels are %q", got)
	}
	for _, text := range []string{"", "a", "=b"} {
		if labels.Set(text) == nil {
			t.Errorf("%q is taken for a label", text)
		}
	}
}

func TestAMomentIsATimeWithItsZone(t *testing.T) {
	t.Parallel()
	var at momentFlag
	if at.String() != "" {
		t.Errorf("none is %q", at.String())
	}
	if err := at.Set("2026-01-31T08:00:00.5-03:00"); err != nil || !time.Time(at).Equal(time.Date(2026, 1, 31, 11, 0, 0, 5e8, time.UTC)) {
		t.Errorf("%s, %v", at.String(), err)
	}
	for _, text := range []string{"", "tomorrow", "2026-01-31", "2026-01-31T08:00:00"} {
		if at.Set(text) == nil {
			t.Errorf("%q is taken for %s", text, at.String())
		}
	}
}
