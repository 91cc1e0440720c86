package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pullkit/pullkit/puller"
)

// A total adds up the progress of all images.
type total struct {
	images, finished int
	calls            map[uint64]puller.Progress // the last progress of each call of the Puller
	samples          []sample
}

// A sample is the number of bytes that had arrived at one moment.
type sample struct {
	at    time.Time
	bytes int64
}

// The speed is the average of the last seconds. Over a longer time it would not show that a
// transfer stalls; over a shorter time it would jump.
const (
	sampleEvery = 250 * time.Millisecond
	sampleFor   = 5 * time.Second
)

func newTotal(images int) *total {
	return &total{images: images, calls: map[uint64]puller.Progress{}}
}

// event adds the bytes of an event. A call that shares the pull of another call reports
// the same progress, which counts once.
func (t *total) event(e puller.Event) {
	if e.Progress != nil && !e.Shared {
		t.calls[e.Call] = *e.Progress
	}
	if e.Reason == puller.EventFailed { // the missing bytes will not arrive
		p := t.calls[e.Call]
		p.Total = p.TotalDone
		t.calls[e.Call] = p
	}
}

func (t *total) sum() (done, all, fetched int64) {
	for _, p := range t.calls {
		done, all, fetched = done+p.TotalDone, all+p.Total, fetched+p.TotalDone-p.TotalResumed
	}
	return done, all, fetched
}

// speed returns the bytes per second. It is 0 if no bytes arrive, or if it is too early to
// measure.
func (t *total) speed(now time.Time, fetched int64) float64 {
	if n := len(t.samples); n == 0 || now.Sub(t.samples[n-1].at) >= sampleEvery {
		t.samples = append(t.samples, sample{now, fetched})
	}
	t.samples = slices.DeleteFunc(t.samples, func(s sample) bool { return now.Sub(s.at) > sampleFor })
	if len(t.samples) == 0 {
		return 0
	}
	first := t.samples[0]
	if now.Sub(first.at) < sampleEvery {
		return 0
	}
	return max(float64(fetched-first.bytes)/now.Sub(first.at).Seconds(), 0)
}

// line returns the total line, short enough for this number of columns.
func (t *total) line(now time.Time, columns int) string {
	done, all, fetched := t.sum()
	speed := t.speed(now, fetched)
	count := fmt.Sprintf("%d of %d images", t.finished, t.images)
	if all == 0 {
		return longest(columns, count+"  asking the registry", count)
	}
	share := fmt.Sprintf("%d%%", done*100/all)
	rate, left := "", ""
	if speed > 0 {
		rate = bytesText(int64(speed)) + "/s"
	}
	if speed >= 1 {
		left = clock(time.Duration(float64(all-done) / speed * float64(time.Second)))
	}
	bytes := bytesText(done) + " of " + bytesText(all)
	return longest(columns,
		join(count, bytes, share, rate, left+" left"),
		join(bytes, share, rate, left+" left"),
		join(shortBytes(done, all), share, rate, left),
		join(share, rate, left),
		share,
	)
}

// shortBytes writes both numbers, and leaves out the first unit if it is the same as the
// second.
func shortBytes(done, all int64) string {
	a, b := bytesText(done), bytesText(all)
	number, unit, _ := strings.Cut(a, " ")
	if strings.HasSuffix(b, " "+unit) {
		a = number
	}
	return a + "/" + b
}

// longest returns the first of texts that fits, or the last.
func longest(columns int, texts ...string) string {
	for _, text := range texts {
		if len(text) < columns {
			return text
		}
	}
	return texts[len(texts)-1]
}

// join joins the parts that are known.
func join(parts ...string) string {
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" || s == " left" }), "  ")
}

// clock writes a time as 0:07, 12:34 or 1:02:03.
func clock(d time.Duration) string {
	s := int64(d.Round(time.Second).Seconds())
	if s >= 100*3600 {
		return "days"
	}
	if s >= 3600 {
		return fmt.Sprintf("%d:%02d:%02d", s/3600, s/60%60, s%60)
	}
	return fmt.Sprintf("%d:%02d", s/60, s%60)
}
