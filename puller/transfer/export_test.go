package transfer

import "fmt"

// Processors makes a Runtime that has not pulled yet believe in n processors.
func (r *Runtime) Processors(n int) { r.hashing.slots = make(chan struct{}, n) }

// Idle is an error that says what a Runtime without pulls has not got back.
func (r *Runtime) Idle() error {
	r.pool.mu.Lock()
	out := cap(r.pool.free) - r.pool.left - len(r.pool.free)
	r.pool.mu.Unlock()
	r.lanes.mu.Lock()
	open, blobs, adding := r.lanes.open+r.lanes.writers+r.lanes.besides, r.lanes.blobs, r.lanes.adding
	r.lanes.mu.Unlock()
	r.flights.mu.Lock()
	defer r.flights.mu.Unlock()
	running, fetching, known := r.flights.running, r.flights.fetching, len(r.flights.byKey)
	if out+open+blobs+running+fetching+known+len(r.documents)+len(r.hashing.slots) != 0 || adding {
		return fmt.Errorf("%d buffers, %d lanes or writes of %d blobs (adding %t), %d flights (%d fetch, %d known), %d documents, %d hashes",
			out, open, blobs, adding, running, fetching, known, len(r.documents), len(r.hashing.slots))
	}
	return nil
}
