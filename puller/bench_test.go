package puller

import (
	"context"
	"testing"

	"github.com/pullkit/pullkit/credentials"
)

// A presentRuntime is a Runtime in which every image is present.
type presentRuntime struct{ quietRuntime }

func (presentRuntime) Status(_ context.Context, spec Spec) (Image, error) {
	return fakeImage(spec.Ref, "sha256:1"), nil
}

// BenchmarkPresent measures a pull of an image that is present, as at each start of a
// container.
func BenchmarkPresent(b *testing.B) {
	for name, ring := range map[string]credentials.Keyring{"no secrets": nil, "1 secret": keyringOf(secret("a", "1"))} {
		b.Run(name, func(b *testing.B) {
			p, err := New(Config{Runtime: presentRuntime{}})
			if err != nil {
				b.Fatal(err)
			}
			req := Request{Image: "registry.example/team/app:v1", Keyring: ring, Pod: credentials.Pod{Namespace: "team", UID: "1"}}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := p.Pull(b.Context(), req); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkInWindow measures a pull that fails because of a back-off window.
func BenchmarkInWindow(b *testing.B) {
	r := &fakeRuntime{pull: answers(map[string]string{"anonymous": "404"})}
	p, err := New(Config{Runtime: r})
	if err != nil {
		b.Fatal(err)
	}
	req := Request{Image: "registry.example/team/app:latest"}
	if _, err := p.Pull(b.Context(), req); err == nil {
		b.Fatal("not in a window")
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.Pull(b.Context(), req); err == nil {
			b.Fatal("pulled")
		}
	}
}

// BenchmarkPull measures what a Puller adds to the Runtime's work.
func BenchmarkPull(b *testing.B) {
	p, err := New(Config{Runtime: quietRuntime{}})
	if err != nil {
		b.Fatal(err)
	}
	req := Request{Image: "registry.example/team/app:v1", Keyring: keyringOf(secret("a", "1"))}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.Pull(b.Context(), req); err != nil {
			b.Fatal(err)
		}
	}
}

func TestAPresentImageNeedsFewAllocations(t *testing.T) {
	p, err := New(Config{Runtime: presentRuntime{}})
	if err != nil {
		t.Fatal(err)
	}
	req := Request{Image: "registry.example/team/app:v1", Pod: credentials.Pod{UID: "1"}}
	for _, tt := range []struct {
		ctx  context.Context
		most float64
	}{
		{context.Background(), 12},
		{t.Context(), 18}, // the store is asked in a goroutine, so that the call can end with its context
	} {
		got := testing.AllocsPerRun(100, func() {
			if _, err := p.Pull(tt.ctx, req); err != nil {
				t.Fatal(err)
			}
		})
		if got > tt.most {
			t.Errorf("%v allocations, more than %v", got, tt.most)
		}
	}
}
