package client

import "context"

// Killable returns the Run of a worker, and a function that ends it at once, as the death of its process would.
func Killable(ctx context.Context, w Worker) (run func() error, kill func(), err error) {
	registry, err := w.check()
	if err != nil {
		return nil, nil, err
	}
	r := newWorkerRun(ctx, w, registry)
	return func() error { return r.run(ctx) }, func() { r.end(nil) }, nil
}
