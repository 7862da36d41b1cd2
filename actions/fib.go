package actions

import (
	"context"
	"fmt"
	"math/big"
	"math/bits"
)

const (
	// DefaultFib is the n of fib without a payload.
	DefaultFib = 20
	// MaxFib is the largest n of fib: 208,988 digits, in some 30 ms.
	MaxFib = 1_000_000
)

// fib returns the n-th Fibonacci number, exact at any size. A missing payload, null and
// 0 mean n = 20:
//
//	25   → {"ok":true,"fib":75025}
//	null → {"ok":true,"fib":6765}
//
// An integer may be spelled in any way that JSON has: 25.0 is 25.
func fib() Action {
	return Action{Name: "fib", Append: appendFib, Slow: true}
}

func appendFib(ctx context.Context, call *Call, dst []byte) ([]byte, error) {
	n, ok := DefaultFib, true
	if !isMissing(call.Payload) {
		n, ok = wholeNumber(call.Payload, MaxFib)
	}
	if !ok {
		return dst, Permanent(fmt.Errorf("fib takes a whole number from 0 to %d, not %s", MaxFib, describe(call.Payload)))
	}
	if n == 0 {
		n = DefaultFib
	}
	f, err := fibonacci(ctx, n)
	if err != nil {
		return dst, err
	}
	return f.Append(append(dst, `"fib":`...), 10), nil
}

// fibonacci computes F(n) by doubling, a bit of n at a time from the highest:
//
//	F(2k)   = F(k) · (2·F(k+1) − F(k))
//	F(2k+1) = F(k)² + F(k+1)²
//
// It checks ctx before each doubling and at the end, since the conversion to decimal
// that follows takes longer than all doublings together.
func fibonacci(ctx context.Context, n int) (*big.Int, error) {
	a, b := big.NewInt(0), big.NewInt(1) // F(k) and F(k+1), with k = 0 so far
	even, square := new(big.Int), new(big.Int)
	for i := bits.Len(uint(n)) - 1; i >= 0; i-- {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		even.Lsh(b, 1)
		even.Sub(even, a)
		even.Mul(even, a)
		square.Mul(a, a)
		odd := a.Mul(b, b)
		odd.Add(odd, square)
		a, b, even = even, odd, b
		if n>>i&1 == 1 {
			a.Add(a, b)
			a, b = b, a
		}
	}
	return a, ctx.Err()
}
