package puller

import (
	"context"
	"sync"
	"testing"

	"github.com/pullkit/pullkit/credentials"
	"github.com/stretchr/testify/require"
)

// A world is a Puller with its fake Runtime and its events so far.
type world struct {
	*Puller
	runtime *fakeRuntime

	mu     sync.Mutex
	events []Event
}

// newWorld makes a Puller of config, with a fake Runtime unless it has one.
func newWorld(t *testing.T, config Config) *world {
	t.Helper()
	w := &world{}
	if config.Runtime == nil {
		w.runtime = &fakeRuntime{store: map[string]string{}}
		config.Runtime = w.runtime
	}
	config.Events = func(e Event) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.events = append(w.events, e)
	}
	p, err := New(config)
	require.NoError(t, err)
	w.Puller = p
	return w
}

// reasons returns the reasons of the events since the last call of reasons or took.
func (w *world) reasons() []EventReason {
	out := []EventReason{}
	for _, e := range w.took() {
		out = append(out, e.Reason)
	}
	return out
}

func (w *world) took() []Event {
	w.mu.Lock()
	defer w.mu.Unlock()
	events := w.events
	w.events = nil
	return events
}

// answers returns a function for fakeRuntime.pull that answers each credential in by with
// the error of its text. A credential that is not in by opens the image.
func answers(by map[string]string) func(context.Context, Spec) (string, error) {
	return func(_ context.Context, spec Spec) (string, error) {
		if text, ok := by[credentialID(spec.Credential)]; ok {
			return "", textError(text)
		}
		return "sha256:" + credentialID(spec.Credential), nil
	}
}

func keyringOf(creds ...credentials.Credential) *fakeKeyring { return &fakeKeyring{creds: creds} }

// asError returns err as an *Error, which every method of a Puller returns.
func asError(t *testing.T, err error) *Error {
	t.Helper()
	var e *Error
	require.ErrorAs(t, err, &e)
	return e
}
