package httpapi

import (
	"sync/atomic"

	"github.com/posta-tasks/posta/task"
)

// Stats are the counters of the door since it was made, and what is open now.
type Stats struct {
	ConnectionsOpen  int64               // of those that Serve was given
	ConnectionsTotal int64               // likewise
	Requests         int64               // requests that net/http found well-formed
	Running          int64               // requests that are being answered
	BytesIn          int64               // of Serve's connections, heads included
	BytesOut         int64               // likewise
	Refused          map[task.Code]int64 // refusals by code; every code is there
}

// counters are the Stats as they grow.
type counters struct {
	open, connections, requests, running, bytesIn, bytesOut atomic.Int64
	refused                                                 map[task.Code]*atomic.Int64 // never changes, its values do
}

func newCounters() counters {
	refused := map[task.Code]*atomic.Int64{}
	for _, code := range task.Codes() {
		refused[code] = new(atomic.Int64)
	}
	return counters{refused: refused}
}

// refuse counts a refusal.
func (c *counters) refuse(code task.Code) {
	if counter := c.refused[code]; counter != nil {
		counter.Add(1)
	}
}

// Stats returns the counters. They are read one after the other, so they may differ
// by what happens meanwhile.
func (s *Server) Stats() Stats {
	c := &s.counters
	stats := Stats{
		ConnectionsOpen:  c.open.Load(),
		ConnectionsTotal: c.connections.Load(),
		Requests:         c.requests.Load(),
		Running:          c.running.Load(),
		BytesIn:          c.bytesIn.Load(),
		BytesOut:         c.bytesOut.Load(),
		Refused:          map[task.Code]int64{},
	}
	for code, counter := range c.refused {
		stats.Refused[code] = counter.Load()
	}
	return stats
}
