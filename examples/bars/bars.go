package main

import (
	"fmt"
	"sync"

	"github.com/opencontainers/go-digest"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/puller"
)

// bars has a bar for each blob, by digest. A blob that two images share is fetched once and
// has one bar.
type bars struct {
	progress *mpb.Progress
	mu       sync.Mutex
	byDigest map[digest.Digest]*bar
}

type bar struct {
	*mpb.Bar
	call uint64 // the last call of the Puller that has reported the blob
}

func newBars(progress *mpb.Progress) *bars {
	return &bars{progress: progress, byDigest: map[digest.Digest]*bar{}}
}

// event draws one event of a Puller.
func (b *bars) event(e puller.Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case e.Reason == puller.EventFailed:
		b.abort(func(bar *bar) bool { return bar.call == e.Call })
	case e.Progress != nil && e.Progress.Blob.Digest != "" && e.Progress.Blob.Size > 0:
		b.blob(e.Call, *e.Progress)
	}
}

func (b *bars) blob(call uint64, p puller.Progress) {
	it := b.byDigest[p.Blob.Digest]
	if it == nil || it.Aborted() {
		if p.State == puller.BlobPresent {
			return // the blob needs no bar
		}
		it = &bar{Bar: b.add(p.Blob)}
		b.byDigest[p.Blob.Digest] = it
	}
	it.call = call
	it.SetRefill(p.Resumed) // bytes that were kept from an earlier try are drawn differently
	done := p.Done
	if p.State == puller.BlobStored {
		done = p.Blob.Size
	} else {
		done = min(done, p.Blob.Size-1) // the bar is full only when the blob is verified and stored
	}
	it.SetCurrent(done)
}

// wide is the smallest number of columns at which a bar has room for its counters.
const wide = 60

func (b *bars) add(desc ocispec.Descriptor) *mpb.Bar {
	counters := decor.CountersKibiByte("% .1f / % .1f", decor.WC{})
	return b.progress.New(desc.Size,
		mpb.BarStyle().Lbound("[").Filler("=").Tip(">").Refiller("+").Padding(" ").Rbound("]"),
		mpb.PrependDecorators(decor.Name(short(desc.Digest))),
		mpb.AppendDecorators(
			decor.Any(func(s decor.Statistics) string {
				if s.AvailableWidth < wide {
					return ""
				}
				text, _ := counters.Decor(s)
				return fmt.Sprintf("%23s", text)
			}),
			decor.OnAbort(decor.Percentage(decor.WC{W: 6}), "  gone"),
		),
	)
}

// end stops drawing the bars of blobs that are not complete.
func (b *bars) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.abort(func(*bar) bool { return true })
}

func (b *bars) abort(which func(*bar) bool) {
	for _, bar := range b.byDigest {
		if which(bar) {
			bar.Abort(false) // does nothing for a full bar
		}
	}
}

// short returns the first characters of a digest, which are enough to distinguish
// blobs.
func short(d digest.Digest) string {
	text := d.Encoded()
	return text[:min(len(text), 12)]
}
