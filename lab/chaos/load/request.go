package load

import (
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/posta-tasks/posta/lab/chaos/history"
)

// The waits before another attempt, in seconds.
const (
	backoff        = 0.5
	longestBackoff = 4
)

// request is a line to send.
type request struct {
	ID       int            `json:"id"`
	Op       string         `json:"op"`
	Task     string         `json:"task,omitempty"`
	Action   string         `json:"action,omitempty"`
	Payload  any            `json:"payload,omitempty"`
	Queue    string         `json:"queue,omitempty"`
	Priority string         `json:"priority,omitempty"`
	Delay    float64        `json:"delay,omitempty"`
	Timeout  float64        `json:"timeout,omitempty"`
	Attempts int            `json:"max_attempts,omitempty"`
	Backoff  float64        `json:"backoff,omitempty"`
	Longest  float64        `json:"backoff_max,omitempty"`
	Key      string         `json:"key,omitempty"`
	Meta     map[string]any `json:"meta,omitempty"`
	Wait     bool           `json:"wait,omitempty"`
	Limit    int            `json:"limit,omitempty"`

	nonce string
	long  bool // it runs for a while, so that it can be cancelled meanwhile
}

// ask returns the request for the history.
func (r *request) ask() *history.Ask {
	return &history.Ask{Op: r.Op, Task: r.Task, Action: r.Action, Queue: r.Queue, Key: r.Key, Nonce: r.nonce, Wait: r.Wait}
}

// poisonous reports whether the task kills its process.
func (r *request) poisonous() bool { return history.Deed(r.Action) == "kill" }

// actionOf chooses what a new task does. The weights add up to 100.
func actionOf(random *rand.Rand) (action string, p history.Payload, timeout float64) {
	p.Attempts = 5
	switch n := random.IntN(100); {
	case n < 40:
		return "chaos.hash", p, 0
	case n < 65:
		p.MS = 5 + random.IntN(150)
		return "chaos.sleep", p, 0
	case n < 69:
		p.MS = 1000 + random.IntN(1000)
		return "chaos.sleep", p, 0
	case n < 77:
		p.Fails = 1 + random.IntN(2)
		return "chaos.flaky", p, 0
	case n < 79:
		return "chaos.refuse", p, 0
	case n < 81:
		p.Attempts = 2
		return "chaos.panic", p, 0
	case n < 83:
		p.Attempts = 2
		return "chaos.goexit", p, 0
	case n < 84:
		p.MS, p.Attempts = 1500+random.IntN(1000), 1
		return "chaos.hang", p, 1
	case n < 89:
		p.Bytes = 1000 + random.IntN(20_000)
		return "chaos.big", p, 0
	case n < 90:
		p.Bytes = 70_000
		return "chaos.big", p, 0
	case n < 96:
		p.MS = 50 + random.IntN(300)
		return "chaos.progress", p, 0
	}
	return "upper", p, 0
}

// remote are the actions that workers have, too.
var remote = map[string]bool{
	"chaos.hash": true, "chaos.sleep": true, "chaos.flaky": true, "chaos.refuse": true, "chaos.hang": true, "chaos.big": true,
	"chaos.progress": true, "chaos.kill": true,
}

// enqueue returns the request for a new task. The number is unique in the run.
func (w *worker) enqueue(number int, poison bool) request {
	random := w.random
	action, p, timeout := actionOf(random)
	switch n := random.IntN(100); {
	case n < w.config.Slow:
		action, p, timeout = "chaos.linger", history.Payload{MS: 17_000 + random.IntN(2000), Later: int(w.config.Later.Milliseconds()), Attempts: 5}, 0
	case n < w.config.Slow+w.config.Busy:
		action, p, timeout = "chaos.sleep", history.Payload{MS: 200 + random.IntN(500), Attempts: 5}, 0
	case n < w.config.Slow+w.config.Busy+w.config.Large:
		action, p, timeout = "chaos.big", history.Payload{Bytes: 1000 + random.IntN(2)*80_000, Attempts: 5}, 0
		if p.Bytes < history.Inline {
			p.Fill = strings.Repeat("x", 80_000)
		}
	}
	if poison {
		action, p, timeout = "chaos.kill", history.Payload{Attempts: 5}, 0
	}
	if w.config.Remote > 0 && p.Bytes < history.Inline && p.Fill == "" && remote[action] && random.IntN(100) < w.config.Remote {
		action = history.OnWorker + history.Deed(action)
	}
	p.Nonce = fmt.Sprintf("n%d", number)
	r := request{
		Op: "enqueue", Action: action, Payload: p, Queue: []string{"alpha", "beta", "gamma"}[random.IntN(3)],
		Priority: []string{"high", "normal", "low"}[random.IntN(3)], Timeout: timeout, Attempts: p.Attempts,
		Backoff: backoff, Longest: longestBackoff, // a run is over in minutes
		Meta: map[string]any{"nonce": p.Nonce}, nonce: p.Nonce, long: p.MS >= 1000,
	}
	if action == "upper" {
		r.Payload = p.Nonce
	}
	if random.IntN(10) == 0 {
		r.Delay = float64(random.IntN(2000)+100) / 1000
	}
	if poison {
		r.Priority = "low" // so that tasks in quarantine with it do not wait for one more quiet period
	}
	r.Wait = random.IntN(3) == 0
	return r
}
