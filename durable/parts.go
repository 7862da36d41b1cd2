package durable

// Parts says which parts an engine depends on, and which of them do not answer now.
type Parts struct {
	Store, Broker, Blobs             string // the kind, such as "SQLite"; "" if there is none
	StoreAway, BrokerAway, BlobsAway bool
	Draining                         bool
}

// Parts returns the parts of the engine.
func (e *Engine) Parts() Parts {
	p := Parts{Draining: e.draining.Load(), Store: "store"}
	if watched, ok := e.config.Store.(*watchedStore); ok {
		p.Store = kindOf(watched.Store, "store")
	}
	p.StoreAway, _ = e.outages.store.State()
	if e.config.Broker != nil {
		p.Broker, p.BrokerAway = kindOf(e.config.Broker, "broker"), e.config.Broker.Stats().Away
	}
	if e.config.Blobs != nil {
		p.Blobs = kindOf(e.config.Blobs, "blobs")
		p.BlobsAway, _ = e.outages.blobs.State()
	}
	return p
}

// kindOf returns what a driver calls itself, or else the name of its contract.
func kindOf(driver any, contract string) string {
	if named, ok := driver.(interface{ Kind() string }); ok {
		return named.Kind()
	}
	return contract
}
