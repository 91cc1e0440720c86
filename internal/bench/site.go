package main

import "context"

// A site is a registry with what is in front of it.
type site interface {
	// begin resets counts and limits, and returns the host that clients ask.
	begin(ctx context.Context) (host string, err error)
	// counts returns the counts since begin.
	counts() (counts, error)
	close() error
}

// begin resets the counts.
func (r *registry) begin(context.Context) (string, error) {
	_, err := r.counts()
	return r.host, err
}
