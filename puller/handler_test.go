package puller

import (
	"context"
	"fmt"
	"testing"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/puller/records"
	"github.com/pullkit/pullkit/pullpolicy"
	"github.com/pullkit/pullkit/reference"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Requests for one image and two handlers share no pull, no window and no record, and the
// Runtime gets the handler of each request.
func TestRuntimeHandlersAreKeptApart(t *testing.T) {
	store, err := records.Open(t.TempDir())
	require.NoError(t, err)
	t.Cleanup(func() { store.Close() })
	w := newWorld(t, Config{Parallel: -1, Records: store})
	request := func(handler string, creds ...credentials.Credential) Request {
		return Request{Image: "a.example/a:1", RuntimeHandler: handler, Keyring: keyringOf(creds...), Policy: pullpolicy.IfNotPresent, Pod: credentials.Pod{UID: "1"}}
	}
	both := make(chan string, 2)
	met := make(chan struct{})
	w.runtime.pull = func(_ context.Context, spec Spec) (string, error) {
		both <- spec.RuntimeHandler
		<-met // both pulls run at the same time
		if spec.RuntimeHandler == "kata" {
			return "", textError("404")
		}
		return "sha256:1", nil
	}
	errs := make(chan error, 2)
	for _, handler := range []string{"", "kata"} {
		go func() {
			_, err := w.Pull(t.Context(), request(handler, secret("s1", "1")))
			errs <- err
		}()
	}
	assert.ElementsMatch(t, []string{"", "kata"}, []string{<-both, <-both})
	close(met)
	failed := 0
	for range 2 {
		if <-errs != nil {
			failed++
		}
	}
	assert.Equal(t, 1, failed)

	d, err := w.Explain(t.Context(), request("kata", secret("s1", "1")))
	require.NoError(t, err)
	assert.Equal(t, "kata", d.RuntimeHandler)
	assert.Equal(t, StoreNotYours, d.Store, "the fake keeps one store, and the image was pulled, so it is not preloaded for kata either")
	req := request("kata", secret("s1", "1"))
	req.Policy = pullpolicy.Always
	d, err = w.Explain(t.Context(), req)
	require.NoError(t, err)
	assert.Equal(t, ActionWait, d.Action)
	assert.Contains(t, d.BackOff.Key, "runtime handler kata")
	req.RuntimeHandler = "runsc"
	d, err = w.Explain(t.Context(), req)
	require.NoError(t, err)
	assert.Equal(t, ActionPull, d.Action, "the window is that of kata")

	rec, err := store.Record(t.Context(), "sha256:1")
	require.NoError(t, err)
	assert.Len(t, rec.Names, 1)
	w.runtime.pull = nil
	req = request("runsc", secret("s2", "2"))
	req.Policy = pullpolicy.Always
	img, err := w.Pull(t.Context(), req)
	require.NoError(t, err)
	rec, err = store.Record(t.Context(), img.ID+" runsc")
	require.NoError(t, err)
	assert.Len(t, rec.Names, 1)
	// Sweep asks for the ID of the image.
	ids := []string{}
	require.NoError(t, w.Sweep(t.Context(), rec.Updated.Add(3600e9), func(id string) bool {
		ids = append(ids, id)
		return id == img.ID
	}))
	assert.ElementsMatch(t, []string{"sha256:1", img.ID, img.ID}, ids)
	_, err = store.Record(t.Context(), img.ID+" runsc")
	assert.NoError(t, err)
}

// A Runtime may report an image as present for all handlers, as containerd does. The Pods
// of the other handlers need proof while the pull runs, after it, and after a crash during
// the pull.
func TestImageOfAnotherHandlerIsNotPreloaded(t *testing.T) {
	for _, handlers := range [][2]string{{"kata", ""}, {"", "kata"}, {"kata", "runsc"}} {
		for _, crashed := range []bool{false, true} {
			store, err := records.Open(t.TempDir())
			require.NoError(t, err)
			t.Cleanup(func() { store.Close() })
			w := newWorld(t, Config{Records: store})
			request := func(handler string, creds ...credentials.Credential) Request {
				return Request{Image: "a.example/a:1", RuntimeHandler: handler, Keyring: keyringOf(creds...), Policy: pullpolicy.IfNotPresent}
			}
			state := func(p *Puller, req Request) StoreState {
				d, err := p.Explain(t.Context(), req)
				require.NoError(t, err)
				return d.Store
			}
			w.runtime.pull = func(context.Context, Spec) (string, error) {
				w.runtime.mu.Lock()
				w.runtime.store["a.example/a:1"] = "sha256:1" // before the pull ends
				w.runtime.mu.Unlock()
				assert.Equal(t, StoreNotYours, state(w.Puller, request(handlers[1])), "%q: while it runs", handlers)
				if crashed {
					panic("crash")
				}
				return "sha256:1", nil
			}
			pull := func() { _, err = w.Pull(t.Context(), request(handlers[0], secret("s1", "1"))) }
			if crashed {
				assert.Panics(t, pull)
			} else {
				pull()
				require.NoError(t, err)
				assert.Equal(t, StorePresent, state(w.Puller, request(handlers[0], secret("s1", "1"))))
			}
			next, err := New(Config{Runtime: w.runtime, Records: store})
			require.NoError(t, err)
			assert.Equal(t, StoreNotYours, state(next, request(handlers[1])), "%q, crash %v", handlers, crashed)
		}
	}
}

// A handler that is not a DNS label is refused: no RuntimeClass can have it, and a space
// in it would change the meaning of notes and IDs.
func TestRuntimeHandlerIsALabel(t *testing.T) {
	w := newWorld(t, Config{})
	for handler, ok := range map[string]bool{"": true, "kata": true, "kata-2": true, "-a": false, "a-": false, "A": false, "a b": false, "a.b": false, fmt.Sprintf("%064d", 0): false, "é": false} {
		_, err := w.Pull(t.Context(), Request{Image: "a.example/a:1", RuntimeHandler: handler})
		assert.Equal(t, ok, err == nil, "%q: %v", handler, err)
		if err != nil {
			assert.Equal(t, Reason(""), asError(t, err).Reason)
			assert.ErrorContains(t, err, "DNS label")
		}
	}
}

// Config.Parser completes names without a registry. The Runtime gets a written name that
// means the same image to it. The policy is that of the name as written.
func TestParserReadsNames(t *testing.T) {
	w := newWorld(t, Config{Parser: reference.Parser{Registry: "hub.example", Namespace: "mirror", Tag: "stable"}})
	for image, want := range map[string][3]string{
		"nginx":                 {"hub.example/mirror/nginx:stable", "hub.example/mirror/nginx:stable", "Always"},
		"team/app:v1":           {"hub.example/team/app:v1", "hub.example/team/app:v1", "IfNotPresent"},
		"registry.example/a":    {"registry.example/a:stable", "registry.example/a:stable", "Always"},
		"registry.example/a:v1": {"registry.example/a:v1", "registry.example/a:v1", "IfNotPresent"},
		"docker.io/nginx:v1":    {"docker.io/library/nginx:v1", "docker.io/nginx:v1", "IfNotPresent"},
	} {
		img, err := w.Pull(t.Context(), Request{Image: image})
		require.NoError(t, err)
		assert.Equal(t, want[0], img.Ref.String())
		calls := w.runtime.took()
		assert.Equal(t, "pull "+want[1]+" with anonymous", calls[len(calls)-1])
		d, err := w.Explain(t.Context(), Request{Image: image})
		require.NoError(t, err)
		assert.Equal(t, want[2], string(d.Policy), image)
	}
	d, err := w.Explain(t.Context(), Request{Image: "nginx"})
	require.NoError(t, err)
	assert.Equal(t, "default: no tag is written", d.PolicyWhy)
	_, err = New(Config{Runtime: &fakeRuntime{}, Parser: reference.Parser{Registry: "not a registry"}})
	assert.ErrorContains(t, err, "Config.Parser")
}
