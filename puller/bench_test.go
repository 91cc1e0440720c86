package puller

import (
	"context"
	"testing"

	"github.com/pullkit/pullkit/credentials"
)

// presentRuntime has every image.
type presentRuntime struct{ quietRuntime }

func (presentRuntime) Status(_ context.Context, spec Spec) (Image, error) {
	return fakeImage(spec.Ref, "sha256:1"), nil
}

// BenchmarkPresent is what each start of a container costs while its image is there.
func BenchmarkPresent(b *testing.B) {
	for name, ring := range map[string]credentials.Keyring{"no secrets": nil, "1 secret": ringOf(secret("a", "1"))} {
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

// BenchmarkInWindow is what a Pod in ImagePullBackOff costs each time it is looked at.
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

// BenchmarkPull is what a pull costs besides the Runtime's work.
func BenchmarkPull(b *testing.B) {
	p, err := New(Config{Runtime: quietRuntime{}})
	if err != nil {
		b.Fatal(err)
	}
	req := Request{Image: "registry.example/team/app:v1", Keyring: ringOf(secret("a", "1"))}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.Pull(b.Context(), req); err != nil {
			b.Fatal(err)
		}
	}
}

func TestPresentImagesCostLittle(t *testing.T) {
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
		{t.Context(), 18}, // the store is asked in a goroutine, which a context that ends can leave
	} {
		got := testing.AllocsPerRun(100, func() {
			if _, err := p.Pull(tt.ctx, req); err != nil {
				t.Fatal(err)
			}
		})
		if got > tt.most {
			t.Errorf("%v allocations, at most %v are wanted", got, tt.most)
		}
	}
}
