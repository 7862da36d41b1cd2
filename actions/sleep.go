package actions

import (
	"context"
	"fmt"
	"strconv"
	"time"
)

const (
	// DefaultSleep is how many seconds sleep waits when it is not told.
	DefaultSleep = 0.5
	// MaxSleep is the longest sleep, in seconds: the longest timeout that a
	// task may ask for, beyond which it could never succeed.
	MaxSleep = 3600
)

// sleep waits for the payload's seconds, whole or not, and says how long it
// waited; missing, null and 0 mean half a second:
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
		// A number too large for a float comes back as infinity, and is
		// refused with the others that are out of range.
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
		format = 'e' // hundreds of zeros help nobody
	}
	return strconv.AppendFloat(dst, seconds, format, -1, 64)
}
