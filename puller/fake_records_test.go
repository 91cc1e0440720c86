package puller

import (
	"context"
	"io/fs"
	"iter"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/pullkit/pullkit/puller/records"
)

// scriptedRecords hold one record. Their fields say which calls fail, and count the calls.
type scriptedRecords struct {
	mu      sync.Mutex
	record  *records.Record
	intents []string
	err     error // of Record and Intents
	intend  error
	grant   error
	asked   int             // calls of Record
	late    *records.Record // what record becomes after the first question
	begun   []string
	ended   int
	grants  []records.Access
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

func (r *scriptedRecords) Record(context.Context, string) (records.Record, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked++
	switch {
	case r.err != nil:
		return records.Record{}, r.err
	case r.record == nil:
		r.record = r.late
		return records.Record{}, fs.ErrNotExist
	}
	return *r.record, nil
}

func (r *scriptedRecords) Grant(_ context.Context, _, _ string, access records.Access) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.grant != nil {
		return r.grant
	}
	r.grants = append(r.grants, access)
	return nil
}

func (r *scriptedRecords) Sweep(context.Context, time.Time, func(string) bool) error { return nil }

// memRecords are records in memory. Like records in a directory, they can be used by one
// Puller after another.
type memRecords struct {
	mu      sync.Mutex
	byID    map[string]records.Record
	intents []string
}

func (m *memRecords) Intend(_ context.Context, image string) (func() error, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.intents = append(m.intents, image)
	return func() error {
		m.mu.Lock()
		defer m.mu.Unlock()
		if i := slices.Index(m.intents, image); i >= 0 {
			m.intents = slices.Delete(m.intents, i, i+1)
		}
		return nil
	}, nil
}

func (m *memRecords) Intents(context.Context) iter.Seq2[string, error] {
	m.mu.Lock()
	defer m.mu.Unlock()
	noted := slices.Clone(m.intents)
	return func(yield func(string, error) bool) {
		for _, image := range noted {
			if !yield(image, nil) {
				return
			}
		}
	}
}

func (m *memRecords) Record(_ context.Context, id string) (records.Record, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	rec, ok := m.byID[id]
	if !ok {
		return records.Record{}, fs.ErrNotExist
	}
	rec.Names = maps.Clone(rec.Names)
	return rec, nil
}

func (m *memRecords) Grant(_ context.Context, id, name string, access records.Access) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	rec, ok := m.byID[id]
	if !ok {
		rec = records.Record{ID: id, Names: map[string]records.Access{}}
	}
	rec.Names[name] = rec.Names[name].Merge(access)
	if m.byID == nil {
		m.byID = map[string]records.Record{}
	}
	m.byID[id] = rec
	return nil
}

func (m *memRecords) Sweep(context.Context, time.Time, func(string) bool) error { return nil }
