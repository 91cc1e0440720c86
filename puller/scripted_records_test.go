package puller

import (
	"context"
	"io/fs"
	"iter"
	"sync"
	"time"
)

// scriptedRecords hold one record, and count and fail as told.
type scriptedRecords struct {
	mu      sync.Mutex
	record  *Record
	intents []string
	err     error // of Record and Intents
	intend  error
	grant   error
	asked   int     // calls of Record
	late    *Record // what record becomes after the first question
	begun   []string
	ended   int
	grants  []Access
}

func (r *scriptedRecords) Intend(_ context.Context, image string) (func() error, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.intend != nil {
		return nil, r.intend
	}
	r.begun = append(r.begun, image)
	return func() error {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.ended++
		return nil
	}, nil
}

func (r *scriptedRecords) Intents(context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		if r.err != nil {
			yield("", r.err)
			return
		}
		for _, image := range r.intents {
			if !yield(image, nil) {
				return
			}
		}
	}
}

func (r *scriptedRecords) Record(context.Context, string) (Record, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked++
	switch {
	case r.err != nil:
		return Record{}, r.err
	case r.record == nil:
		r.record = r.late
		return Record{}, fs.ErrNotExist
	}
	return *r.record, nil
}

func (r *scriptedRecords) Grant(_ context.Context, _, _ string, access Access) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.grant != nil {
		return r.grant
	}
	r.grants = append(r.grants, access)
	return nil
}

func (r *scriptedRecords) Sweep(context.Context, time.Time, func(string) bool) error { return nil }
