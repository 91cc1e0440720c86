package puller

import (
	"slices"
	"sync"
	"time"

	"github.com/pullkit/pullkit/backoff"
)

// windows keep, for each image of each Pod, until when it is not tried again,
// what it last failed with, and with which secrets.
type windows struct {
	delays     backoff.Backoff[backoffKey]
	keepWindow bool

	mu      sync.Mutex
	last    map[backoffKey]lastFailure
	sweepAt int // size of last at which forgotten keys are looked for
}

type lastFailure struct {
	err *Error
	// tried are the fingerprints of the secrets that failed in this streak. A
	// secret opens the window once: two that take turns do not keep it open.
	tried []ringPrint
}

// maxTried bounds how many repairs of a secret open a window in one streak.
const maxTried = 16

// A gate says whether an image may be tried now.
type gate struct {
	wait     time.Duration // 0: it may
	previous *Error        // the failure that the window lasts for; may be nil
	repaired bool          // the window is open only since the secrets are new
	state    backoff.State
}

func (g gate) open() bool { return g.wait <= 0 || g.repaired }

// look says whether key may be tried. print is nil where the secrets cannot be
// told from others.
func (w *windows) look(key backoffKey, print *ringPrint) gate {
	g := gate{wait: w.delays.Wait(key), state: w.delays.State(key)}
	w.mu.Lock()
	defer w.mu.Unlock()
	last, ok := w.last[key]
	if !ok {
		return g
	}
	g.previous = last.err
	g.repaired = g.wait > 0 && print != nil && !w.keepWindow &&
		len(last.tried) > 0 && len(last.tried) < maxTried && !slices.Contains(last.tried, *print)
	return g
}

// fail counts a failure and returns how long the window lasts.
func (w *windows) fail(key backoffKey, print *ringPrint, err *Error, after time.Duration) time.Duration {
	// The streak may just have ended by age.
	fresh := w.delays.State(key).Failures == 0
	w.delays.Fail(key)
	if after > 0 {
		w.delays.NotBefore(key, time.Now().Add(min(after, maxRetryAfter)))
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	last := w.last[key]
	if fresh {
		last = lastFailure{}
	}
	if print != nil && len(last.tried) < maxTried && !slices.Contains(last.tried, *print) {
		last.tried = append(slices.Clip(last.tried), *print)
	}
	last.err = err
	if w.last == nil {
		w.last = map[backoffKey]lastFailure{}
	}
	w.last[key] = last
	w.sweep()
	return w.delays.Wait(key)
}

// succeed ends the streak.
func (w *windows) succeed(key backoffKey) {
	w.delays.Reset(key)
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.last, key)
}

// minSweep is the number of keys below which nothing is swept.
const minSweep = 64

// sweep drops the keys whose streak has ended, whenever the map has doubled
// since it was last swept: its cost is spread over the calls that made it grow.
func (w *windows) sweep() {
	if len(w.last) < max(minSweep, w.sweepAt) {
		return
	}
	for key := range w.last {
		if w.delays.State(key).Failures == 0 {
			delete(w.last, key)
		}
	}
	w.sweepAt = 2 * len(w.last)
}
