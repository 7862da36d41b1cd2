package actions

import (
	"context"
	"fmt"
	"strconv"
	"time"
)

const (
	// DefaultSleep is how many seconds sleep waits without a payload.
	DefaultSleep = 0.5
	// MaxSleep is the longest sleep, in seconds. It is the longest timeout of a task, so
	// a longer sleep could never succeed.
	MaxSleep = 3600
)

// sleep waits as many seconds as the payload says, and returns that number. A missing
// payload, null and 0 mean half a second:
//
//	0.25 → {"ok":true,"slept":0.25}
//	null → {"ok":true,"slept":0.5}
//
// The number is written in its shortest form, so 2, 2.0 and 20e-1 all give 2.
func sleep() Action {
	return Action{Name: "sleep", Append: appendSleep, Slow: true}
}

func appendSleep(ctx context.Context, call *Call, dst []byte) ([]byte, error) {
	seconds, err := sleepSeconds(call.Payload)
	if err != nil {
		return dst, err
	}
	timer := time.NewTimer(time.Duration(seconds * float64(time.Second)))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return dst, ctx.Err()
	}
	return appendSeconds(append(dst, `"slept":`...), seconds), nil
}

// sleepSeconds reads the payload of a sleep.
func sleepSeconds(payload []byte) (float64, error) {
	if isMissing(payload) {
		return DefaultSleep, nil
	}
	if isNumber(payload) {
		// A number too large for a float becomes infinity, which is out of range too.
		seconds, _ := strconv.ParseFloat(string(payload), 64)
		switch {
		case seconds == 0:
			return DefaultSleep, nil
		case seconds > 0 && seconds <= MaxSleep:
			return seconds, nil
		}
	}
	return 0, Permanent(fmt.Errorf("sleep takes seconds, a number from 0 to %d, not %s", MaxSleep, describe(payload)))
}

// appendSeconds writes a number of seconds in its shortest form.
func appendSeconds(dst []byte, seconds float64) []byte {
	format := byte('f')
	if seconds < 1e-6 {
		format = 'e' // avoids hundreds of zeros
	}
	return strconv.AppendFloat(dst, seconds, format, -1, 64)
}
