package actions_test

import (
	"context"
	"errors"
	"math/big"
	"strings"
	"testing"
)

func TestFibIsExact(t *testing.T) {
	t.Parallel()
	for payload, want := range map[string]string{
		`1`: "1", `2`: "1", `3`: "2", `10`: "55", `25`: "75025", `93`: "12200160415121876738",
		`100`: "354224848179261915075",
		`1000`: "4346655768693745643568852767504062580256466051737178040248172908953655541794905189040387984007925516" +
			"9295922593080322634775209689623239873322471161642996440906533187938298969649928516003704476137795166849228875",
	} {
		wantAnswer(t, "fib", payload, `"fib":`+want)
	}
}

func TestFibEqualsTheSumOfTheTwoBeforeIt(t *testing.T) {
	t.Parallel()
	a, b := big.NewInt(0), big.NewInt(1)
	for n := 1; n <= 10_000; n++ {
		a, b = b, a.Add(a, b)
		if n < 300 || n%997 == 0 || n == 10_000 {
			wantAnswer(t, "fib", big.NewInt(int64(n)).String(), `"fib":`+a.String())
		}
	}
}

func TestFibOfTheLargestNHasItsKnownDigits(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		payload     string
		digits      int
		first, last string
	}{
		{`100000`, 20899, "2597406934722172", "3428746875"},
		{`1000000`, 208988, "1953282128707757", "8242546875"},
	} {
		got, err := answer(t, t.Context(), "fib", c.payload)
		number, _ := strings.CutPrefix(got, `"fib":`)
		if err != nil || len(number) != c.digits || !strings.HasPrefix(number, c.first) || !strings.HasSuffix(number, c.last) {
			t.Errorf("fib %s has %d digits (%v), want %d digits from %s to %s", c.payload, len(number), err, c.digits, c.first, c.last)
		}
	}
}

func TestFibWithoutANumberIsFib20(t *testing.T) {
	t.Parallel()
	for _, payload := range []string{`null`, `0`, `-0`, `0.0`, `0e7`, `0e-99999999999999999999`, `0.000e+3`} {
		wantAnswer(t, "fib", payload, `"fib":6765`)
	}
}

func TestFibTakesAWholeNumberInAnySpelling(t *testing.T) {
	t.Parallel()
	for _, payload := range []string{
		`25`, `25.0`, `25.000`, `2.5e1`, `2.5E+1`, `250e-1`, `0.25e2`, `0.00025e5`,
		`25` + strings.Repeat("0", 400) + `e-400`,
		`0.` + strings.Repeat("0", 400) + `25e402`,
	} {
		wantAnswer(t, "fib", payload, `"fib":75025`)
	}
}

func TestFibRefusesWhatIsNoWholeNumberAndNamesTheLimit(t *testing.T) {
	t.Parallel()
	for payload, shown := range map[string]string{
		`-1`: "not -1", `-1e1`: "not -1e1", `2.5`: "not 2.5", `25.00000000000000000001`: "not 25.0000", `1e-1`: "not 1e-1",
		`1000001`: "not 1000001", `1e9`: "not 1e9", `1e7`: "not 1e7", `1e999999999999999999999`: "not 1e99",
		`25e-999999999999999999999`: "not 25e-9", `-1e999999999999999999999`: "not -1e9",
		`9223372036854775808`: "not 9223372036854775808", strings.Repeat("7", 1_000_000): "a number of 1000000 bytes",
		`"x"`: "a string", `"25"`: "a string", `true`: "a boolean", `false`: "a boolean", `{}`: "an object", `[25]`: "an array",
		``: "nothing", `x`: "something else",
	} {
		wantRefusal(t, "fib", payload, "from 0 to 1000000", shown)
	}
}

// endsAfter is a context that ends at the n-th time that it is asked.
type endsAfter struct {
	context.Context
	left int
}

func (c *endsAfter) Err() error {
	if c.left--; c.left < 0 {
		return context.Canceled
	}
	return nil
}

func TestFibStopsBetweenItsStepsWhenItsContextEnds(t *testing.T) {
	t.Parallel()
	// 1,000,000 has 20 bits: 20 doublings, and then the conversion.
	for asked := range 21 {
		if _, err := answer(t, &endsAfter{t.Context(), asked}, "fib", `1000000`); !errors.Is(err, context.Canceled) {
			t.Errorf("fib goes on after its context ended at step %d: %v", asked, err)
		}
	}
	if _, err := answer(t, &endsAfter{t.Context(), 21}, "fib", `1000000`); err != nil {
		t.Errorf("fib fails although its context never ended: %v", err)
	}
}

func BenchmarkFib25(b *testing.B)   { benchmark(b, "fib", `25`) }
func BenchmarkFib1000(b *testing.B) { benchmark(b, "fib", `1000`) }
func BenchmarkFib1e5(b *testing.B)  { benchmark(b, "fib", `1e5`) }
func BenchmarkFib1e6(b *testing.B)  { benchmark(b, "fib", `1e6`) }
