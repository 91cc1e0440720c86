package puller

import (
	"container/list"
	"context"
	"sync"
)

// slots bounds how many pulls run at a time. Those that wait get a slot in the
// order in which they came, and can leave.
type slots struct {
	mu      sync.Mutex
	free    int
	limited bool
	waiting list.List // of chan struct{}, closed when the slot is theirs
}

func newSlots(parallel int) *slots {
	if parallel == 0 {
		parallel = 1
	}
	return &slots{free: parallel, limited: parallel > 0}
}

// acquire waits for a slot; the error is the cause of ctx's end.
func (s *slots) acquire(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if !s.limited {
		return nil
	}
	s.mu.Lock()
	if s.free > 0 {
		s.free--
		s.mu.Unlock()
		return nil
	}
	mine := make(chan struct{})
	place := s.waiting.PushBack(mine)
	s.mu.Unlock()
	select {
	case <-mine:
		return nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	select {
	case <-mine: // it came in the same moment: pass it on
		s.mu.Unlock()
		s.release()
	default:
		s.waiting.Remove(place)
		s.mu.Unlock()
	}
	return context.Cause(ctx)
}

// tryAcquire takes a slot if one is free now.
func (s *slots) tryAcquire() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.limited && s.free == 0 {
		return false
	}
	if s.limited {
		s.free--
	}
	return true
}

// release gives a slot back: to the one that waits for longest.
func (s *slots) release() {
	if !s.limited {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if first := s.waiting.Front(); first != nil {
		close(s.waiting.Remove(first).(chan struct{}))
		return
	}
	s.free++
}
