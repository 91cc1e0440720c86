package main

import "context"

// A site is what clients pull from.
type site interface {
	// begin sets back what is counted and limited, and returns the host.
	begin(ctx context.Context) (host string, err error)
	// counts are those since begin.
	counts() (counts, error)
	close() error
}

// begin is a site's.
func (r *registry) begin(context.Context) (string, error) {
	_, err := r.counts()
	return r.host, err
}
