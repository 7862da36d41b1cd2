package doctor

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// Worker is what the node that answers says about a worker of its process.
type Worker struct {
	Worker  string    `json:"worker"`
	Node    string    `json:"node"`
	Actions []string  `json:"actions"`
	Queues  []string  `json:"queues"`
	Slots   int       `json:"slots"`
	Held    int       `json:"held"`
	Version string    `json:"version,omitempty"`
	Since   time.Time `json:"since"`
	Stuck   bool      `json:"stuck"`
	Quiet   bool      `json:"quiet"`
}

// Workers returns the workers that are connected to the process that answers.
func (s System) Workers(ctx context.Context) ([]Worker, error) {
	var body struct{ Workers []Worker }
	err := s.read(ctx, "/v1/workers", &body)
	return body.Workers, err
}

// Quiet asks a worker to stop.
func (s System) Quiet(ctx context.Context, worker string) error {
	status, _, text, err := s.send(ctx, http.MethodPost, "/v1/workers/"+url.PathEscape(worker)+"/quiet")
	return decode(status, text, err, &struct{}{})
}
