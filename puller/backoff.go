package puller

import (
	"cmp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pullkit/pullkit/backoff"
	"github.com/pullkit/pullkit/internal/expiring"
	"github.com/pullkit/pullkit/internal/redact"
)

// A backoffKey is what a back-off window is kept for: one image for one Pod, one platform
// and one runtime handler.
type backoffKey struct {
	image, pod, platform, handler string
}

// String is the human-readable form of the key.
func (k backoffKey) String() string {
	pod := k.pod
	if pod == "" {
		pod = "no pod"
	}
	text := pod + ", " + k.image
	if k.handler != "" {
		text += ", runtime handler " + k.handler
	}
	return redact.Cut(text, maxName)
}

// backoffWindows has, for each key, the end of the back-off window, the last failure, and
// the secrets that have failed.
type backoffWindows struct {
	delays     *backoff.Backoff[backoffKey]
	keepWindow bool             // Kubelet.KeepWindow
	now        func() time.Time // the clock of delays

	mu   sync.Mutex                            // held while an entry of last is changed
	last expiring.Map[backoffKey, lastFailure] // an entry lasts as long as the key's streak in delays
}

// A lastFailure is the last failure of a streak, with the secrets that failed in the
// streak.
type lastFailure struct {
	err *Error
	// failed has the fingerprints of the secrets that failed in this streak. Each new
	// fingerprint lets one attempt through. So secrets that are replaced by each other again
	// and again do not end a back-off.
	failed []fingerprint
}

// maxRepairs is how many different secrets can let an attempt through in one streak.
const maxRepairs = 16

// The kubelet's delays, which are also those of a zero backoff.Config.
const (
	initialDelay = 10 * time.Second
	maxDelay     = 5 * time.Minute
)

// newBackoffWindows returns the windows for config. It also sets the delays of
// config.Backoff that are zero to their defaults.
func newBackoffWindows(config *Config) (*backoffWindows, error) {
	config.Backoff.Initial = cmp.Or(config.Backoff.Initial, initialDelay)
	config.Backoff.Max = cmp.Or(config.Backoff.Max, maxDelay)
	delays, err := backoff.New[backoffKey](config.Backoff)
	if err != nil {
		return nil, err
	}
	w := &backoffWindows{delays: delays, keepWindow: config.Kubelet.KeepWindow}
	w.last.Max = -1 // there are as many entries as streaks
	w.last.Now = config.Backoff.Now
	if w.now = config.Backoff.Now; w.now == nil {
		w.now = time.Now
	}
	return w, nil
}

// A backoffState says whether an image may be tried now, and why not.
type backoffState struct {
	backoff.State
	wait     time.Duration // until the window ends; 0 outside a window
	previous *Error        // the failure that started the window; may be nil
	repaired bool          // a try is allowed in the window, because the secrets are new
}

func (s backoffState) mayTry() bool { return s.wait <= 0 || s.repaired }

// state returns the state of key for a request. secrets is the fingerprint of its secrets;
// nil if they have none.
func (w *backoffWindows) state(key backoffKey, secrets *fingerprint) backoffState {
	s := backoffState{State: w.delays.State(key), wait: w.delays.Wait(key)}
	last, ok := w.last.Get(key)
	if !ok {
		return s
	}
	s.previous = last.err
	s.repaired = s.wait > 0 && secrets != nil && !w.keepWindow &&
		len(last.failed) > 0 && len(last.failed) < maxRepairs && !slices.Contains(last.failed, *secrets)
	return s
}

// fail counts a failure and returns for how long the window lasts. after is for how long
// the registry asked every client to wait.
func (w *backoffWindows) fail(key backoffKey, secrets *fingerprint, err *Error, after time.Duration) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	last, _ := w.last.Get(key)
	w.delays.Fail(key)
	if after > 0 {
		w.delays.NotBefore(key, w.now().Add(after))
	}
	if secrets != nil && len(last.failed) < maxRepairs && !slices.Contains(last.failed, *secrets) {
		last.failed = append(slices.Clip(last.failed), *secrets)
	}
	last.err = err
	w.last.Put(key, last, w.delays.State(key).Ends)
	return w.delays.Wait(key)
}

// succeed ends the streak.
func (w *backoffWindows) succeed(key backoffKey) {
	w.delays.Reset(key)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last.Delete(key)
}

// newBackoffKey returns the key of a task. asWritten is Kubelet.NameAsWritten.
func newBackoffKey(t *task, asWritten bool) backoffKey {
	uid := strings.Clone(t.pod.UID) // the key outlasts the request
	if asWritten {
		return backoffKey{image: strings.Clone(t.image), pod: uid, handler: t.handler}
	}
	return backoffKey{t.ref.String(), uid, platformKey(t.platform), t.handler}
}
