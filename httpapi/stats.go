package httpapi

import (
	"sync/atomic"

	"github.com/posta-tasks/posta/task"
)

// Stats has the counters of the door since it was made, and what is open now.
type Stats struct {
	ConnectionsOpen  int64               // connections that Serve serves now
	ConnectionsTotal int64               // connections that Serve has served since the start
	Requests         int64               // requests that net/http accepted
	Running          int64               // requests that are being answered
	BytesIn          int64               // from connections of Serve, including heads
	BytesOut         int64               // to connections of Serve, including heads
	Refused          map[task.Code]int64 // refusals by code, with an entry for each code
}

// counters has the values of Stats.
type counters struct {
	open, connections, requests, running, bytesIn, bytesOut atomic.Int64
	refused                                                 map[task.Code]*atomic.Int64 // the map never changes, its values do
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

// Stats returns the counters. It reads them one after the other, so they may not be of exactly the same moment.
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
