package link

import (
	"math/rand/v2"
	"time"
)

// firstPause and lastPause bound the exponential pauses between attempts.
const (
	firstPause = 50 * time.Millisecond
	lastPause  = 2 * time.Second
)

// Backoff gives the pause after a number of failures in a row, with jitter.
func Backoff(failures int) time.Duration {
	pause := lastPause
	if failures < 8 {
		pause = min(firstPause<<max(failures-1, 0), lastPause)
	}
	return pause/2 + rand.N(pause/2)
}

// Longer adds up to a quarter to a pause that a server asked for, so that those whom
// it refused together do not come back together.
func Longer(pause time.Duration) time.Duration {
	if pause < 4 {
		return pause
	}
	return pause + rand.N(pause/4)
}
