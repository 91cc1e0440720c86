package transfer

import (
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/puller"
)

// progressEvery is how often bytes that arrived are told of. What happens to a
// whole blob is told at once.
const progressEvery = 100 * time.Millisecond

// A meter tells one pull's listener how far it is. All of it runs in the
// goroutine of the Pull, so calls never overlap and never come after it has
// returned, and a slow listener holds up no blob.
type meter struct {
	tell   func(puller.Progress) // nil: nobody listens
	blobs  map[digest.Digest]*gauge
	total  int64
	done   int64 // sums over blobs
	resume int64
	known  bool // total is
}

// A gauge is what was told of one blob.
type gauge struct {
	desc          ocispec.Descriptor
	f             *flight // nil before it is wanted, and when it is stored
	done, resumed int64
	restarts      int64
	stored        puller.BlobState // how it came to be there; "" until it is
}

func newMeter(tell func(puller.Progress)) *meter {
	m := &meter{tell: tell}
	if tell != nil {
		m.blobs = map[digest.Digest]*gauge{}
	}
	return m
}

// begin tells the total, which is known from the manifest on.
func (m *meter) begin(blobs []ocispec.Descriptor) {
	if m.tell == nil {
		return
	}
	chosen := make(map[digest.Digest]*gauge, len(blobs))
	m.total, m.done, m.resume = 0, 0, 0
	for _, d := range blobs {
		g := m.blobs[d.Digest] // there if it was fetched to learn the platform
		if g == nil {
			g = &gauge{desc: d}
		}
		chosen[d.Digest] = g
		m.total += d.Size
		m.done += g.done
		m.resume += g.resumed
	}
	m.blobs, m.known = chosen, true
	m.send(puller.Progress{})
	for _, d := range blobs {
		if g := chosen[d.Digest]; g.stored != "" {
			m.move(g, g.done, g.resumed, g.stored)
		}
	}
}

// gauge is the one of a blob; nil for a manifest, or if nobody listens.
func (m *meter) gauge(desc ocispec.Descriptor) *gauge {
	if m.tell == nil {
		return nil
	}
	if g := m.blobs[desc.Digest]; g != nil || m.known {
		return g
	}
	g := &gauge{desc: desc}
	m.blobs[desc.Digest] = g
	return g
}

// present says that a blob need not be fetched.
func (m *meter) present(desc ocispec.Descriptor) {
	if g := m.gauge(desc); g != nil && g.stored == "" {
		m.finish(g, desc.Size, puller.BlobPresent)
	}
}

// follow makes the meter look at a flight.
func (m *meter) follow(f *flight) {
	if g := m.gauge(f.desc); g != nil {
		g.f = f
		g.restarts = f.progress.Restarts.Load()
	}
}

// stored says that a flight has landed.
func (m *meter) stored(f *flight) {
	g := m.gauge(f.desc)
	if g == nil {
		return
	}
	if f.present {
		m.finish(g, f.desc.Size, puller.BlobPresent)
	} else {
		m.finish(g, min(f.progress.Resumed.Load(), f.desc.Size), puller.BlobStored)
	}
}

func (m *meter) finish(g *gauge, resumed int64, state puller.BlobState) {
	g.f, g.stored = nil, state
	if resumed < g.resumed { // it began anew since the last poll
		m.move(g, 0, 0, puller.BlobRestarted)
	}
	m.move(g, g.desc.Size, resumed, state)
}

// poll tells of flights that have moved.
func (m *meter) poll() {
	for _, g := range m.blobs {
		if g.f == nil {
			continue
		}
		if n := g.f.progress.Restarts.Load(); n != g.restarts {
			g.restarts = n
			m.move(g, 0, 0, puller.BlobRestarted)
			continue
		}
		resumed := min(g.f.progress.Resumed.Load(), g.desc.Size)
		done := min(resumed+g.f.progress.Got.Load(), g.desc.Size)
		if done > g.done && resumed >= g.resumed {
			m.move(g, done, resumed, puller.BlobFetching)
		}
	}
}

// move sets a gauge and says so.
func (m *meter) move(g *gauge, done, resumed int64, state puller.BlobState) {
	m.done += done - g.done
	m.resume += resumed - g.resumed
	g.done, g.resumed = done, resumed
	if m.known {
		m.send(puller.Progress{Blob: g.desc, State: state, Done: done, Resumed: resumed})
	}
}

func (m *meter) send(p puller.Progress) {
	p.Blob.Data = nil
	p.Total, p.TotalDone, p.TotalResumed = m.total, m.done, m.resume
	m.tell(p)
}

// ticks says when to poll; never if nobody listens.
func (m *meter) ticks() (tick <-chan time.Time, stop func()) {
	if m.tell == nil {
		return nil, func() {}
	}
	t := time.NewTicker(progressEvery)
	return t.C, t.Stop
}
