package client

import (
	"math/rand/v2"
	"time"
)

// firstPause and lastPause are the shortest and the longest pause of the exponential backoff.
const (
	firstPause = 50 * time.Millisecond
	lastPause  = 2 * time.Second
)

// backoff returns the pause after a number of failures in a row, with jitter.
func backoff(failures int) time.Duration {
	pause := lastPause
	if failures < 8 {
		pause = min(firstPause<<max(failures-1, 0), lastPause)
	}
	return pause/2 + rand.N(pause/2)
}

// withJitter adds up to a quarter to a pause that a server asked for, so that clients which
// were refused together do not try again together.
func withJitter(pause time.Duration) time.Duration {
	if pause < 4 {
		return pause
	}
	return pause + rand.N(pause/4)
}
