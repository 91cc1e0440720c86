package transfer

import (
	"errors"
	"fmt"
)

// Processors lets a Runtime that has not pulled yet act as on a machine with n processors.
func (r *Runtime) Processors(n int) { r.fetcher.SetProcessors(n) }

// Idle returns an error that names what a Runtime without pulls still holds.
func (r *Runtime) Idle() error {
	r.flights.mu.Lock()
	defer r.flights.mu.Unlock()
	var err error
	running, fetching, known := r.flights.running, r.flights.fetching, r.flights.group.Len()
	if running+fetching+known+len(r.documents) != 0 {
		err = fmt.Errorf("%d flights (%d fetch, %d known), %d documents", running, fetching, known, len(r.documents))
	}
	return errors.Join(err, r.fetcher.Idle())
}
