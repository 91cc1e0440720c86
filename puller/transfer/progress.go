package transfer

import (
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/puller"
)

// progressEvery is the time between two reports of bytes that arrived. The end and the
// restart of a blob are reported at once.
const progressEvery = 100 * time.Millisecond

// A meter reports how far one pull is to the pull's Spec.Progress. It runs in the
// goroutine of the Pull: reports never overlap, none comes after Pull has returned, and a
// slow Progress delays no blob.
type meter struct {
	report  func(puller.Progress) // nil if nothing is to be reported
	blobs   map[digest.Digest]*gauge
	total   int64 // the sum of the blobs' sizes, once known is true
	known   bool
	done    int64 // sums over blobs
	resumed int64
}

// A gauge has the last report about one blob.
type gauge struct {
	desc          ocispec.Descriptor
	flight        *flight // nil while the pull does not wait for one
	done, resumed int64
	restarts      int64
	stored        puller.BlobState // how the blob came into the Store; "" before
	public        bool             // with BlobStored
}

func newMeter(report func(puller.Progress)) *meter {
	m := &meter{report: report}
	if report != nil {
		m.blobs = map[digest.Digest]*gauge{}
	}
	return m
}

// begin reports the total, which is known when the manifest is known.
func (m *meter) begin(t target) {
	if m.report == nil {
		return
	}
	blobs := t.blobs()
	manifest := t.leaf().desc
	manifest.Data = t.leaf().body
	chosen := make(map[digest.Digest]*gauge, len(blobs))
	m.total, m.done, m.resumed = 0, 0, 0
	for _, d := range blobs {
		g := m.blobs[d.Digest] // not nil if the blob was fetched to learn the platform
		if g == nil {
			g = &gauge{desc: d}
		}
		chosen[d.Digest] = g
		m.total += d.Size
		m.done += g.done
		m.resumed += g.resumed
	}
	m.blobs, m.known = chosen, true
	m.send(puller.Progress{Manifest: &manifest})
	for _, d := range blobs {
		if g := chosen[d.Digest]; g.stored != "" {
			m.move(g, g.done, g.resumed, g.stored)
		}
	}
}

// gauge returns the gauge of a blob. It is nil for a manifest, and if nothing is
// reported.
func (m *meter) gauge(desc ocispec.Descriptor) *gauge {
	if m.report == nil {
		return nil
	}
	if g := m.blobs[desc.Digest]; g != nil || m.known {
		return g
	}
	g := &gauge{desc: desc}
	m.blobs[desc.Digest] = g
	return g
}

// present reports a blob that need not be fetched.
func (m *meter) present(desc ocispec.Descriptor) {
	if g := m.gauge(desc); g != nil && g.stored == "" {
		m.finish(g, desc.Size, puller.BlobPresent)
	}
}

// follow makes the meter watch a flight.
func (m *meter) follow(f *flight) {
	if g := m.gauge(f.desc); g != nil {
		g.flight = f
		g.restarts = f.progress.Restarts.Load()
	}
}

// stored reports that a flight has stored its blob. public is that of the report.
func (m *meter) stored(f *flight, public bool) {
	g := m.gauge(f.desc)
	if g == nil {
		return
	}
	if f.present {
		m.finish(g, f.desc.Size, puller.BlobPresent)
	} else {
		g.public = public
		m.finish(g, min(f.progress.Resumed.Load(), f.desc.Size), puller.BlobStored)
	}
}

func (m *meter) finish(g *gauge, resumed int64, state puller.BlobState) {
	g.flight, g.stored = nil, state
	if resumed < g.resumed { // the fetch was restarted since the last poll
		m.move(g, 0, 0, puller.BlobRestarted)
	}
	m.move(g, g.desc.Size, resumed, state)
}

// poll reports the progress of flights.
func (m *meter) poll() {
	for _, g := range m.blobs {
		if g.flight == nil {
			continue
		}
		if n := g.flight.progress.Restarts.Load(); n != g.restarts {
			g.restarts = n
			m.move(g, 0, 0, puller.BlobRestarted)
			continue
		}
		resumed := min(g.flight.progress.Resumed.Load(), g.desc.Size)
		done := min(resumed+g.flight.progress.Got.Load(), g.desc.Size)
		if done > g.done && resumed >= g.resumed {
			m.move(g, done, resumed, puller.BlobFetching)
		}
	}
}

// move sets a gauge and reports it.
func (m *meter) move(g *gauge, done, resumed int64, state puller.BlobState) {
	m.done += done - g.done
	m.resumed += resumed - g.resumed
	g.done, g.resumed = done, resumed
	if m.known {
		m.send(puller.Progress{Blob: g.desc, State: state, Done: done, Resumed: resumed, Public: g.public})
	}
}

func (m *meter) send(p puller.Progress) {
	p.Blob.Data = nil
	p.Total, p.TotalDone, p.TotalResumed = m.total, m.done, m.resumed
	m.report(p)
}

// ticks returns a channel that receives a value whenever poll is due.
func (m *meter) ticks() (tick <-chan time.Time, stop func()) {
	if m.report == nil {
		return nil, func() {}
	}
	t := time.NewTicker(progressEvery)
	return t.C, t.Stop
}
