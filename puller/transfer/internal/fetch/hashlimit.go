package fetch

import (
	"hash"
	"runtime"
	"sync/atomic"
	"time"
)

// A hashLimit lets at most as many goroutines hash at the same time as there are
// processors. More goroutines would only take turns on the processors, with colder
// caches.
type hashLimit struct {
	slots chan struct{}
	nanos atomic.Int64
	bytes atomic.Int64
}

func newHashLimit() *hashLimit { return &hashLimit{slots: make(chan struct{}, runtime.GOMAXPROCS(0))} }

// processors is how many goroutines may hash at the same time.
func (l *hashLimit) processors() int { return cap(l.slots) }

func (l *hashLimit) write(h hash.Hash, p []byte) {
	l.slots <- struct{}{}
	defer func() { <-l.slots }() // even if the hash, which may be the user's, panics
	began := time.Now()
	h.Write(p) // never fails
	l.nanos.Add(int64(time.Since(began)))
	l.bytes.Add(int64(len(p)))
}

// perByte returns how many seconds it takes to hash a byte.
func (l *hashLimit) perByte() float64 {
	return l.spent().Seconds() / float64(max(1, l.bytes.Load()))
}

// spent is the time that all goroutines together have hashed.
func (l *hashLimit) spent() time.Duration { return time.Duration(l.nanos.Load()) }
