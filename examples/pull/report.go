package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/pullkit/pullkit/index"
	"github.com/pullkit/pullkit/puller"
)

// A report prints each event as a line of text or as a line of JSON. On a terminal, a total
// line is below the lines of text.
type report struct {
	mu             sync.Mutex // several pulls send events at the same time
	stdout, stderr io.Writer
	json           bool
	term           *terminal // nil if there is no total line
	total          *total
	drawn          time.Time // when the total line was last written
}

func newReport(stdout, stderr io.Writer, asJSON bool) *report {
	return &report{stdout: stdout, stderr: stderr, json: asJSON}
}

// drawEvery is the shortest time between two redraws that events cause. The total line is
// also redrawn each second, because the speed and the width of the window can change without
// an event.
const drawEvery = 100 * time.Millisecond

// showTotal starts a total line for a number of images, if term is a terminal. The
// function that it returns ends the total line.
func (r *report) showTotal(term *terminal, images int) (end func()) {
	if term == nil || r.json {
		return func() {}
	}
	r.mu.Lock()
	r.term, r.total = term, newTotal(images)
	r.mu.Unlock()
	done := make(chan struct{})
	var ticking sync.WaitGroup
	ticking.Go(func() {
		ticker := time.NewTicker(time.Second)
		defer ticker.Stop()
		for {
			select {
			case <-done:
				return
			case <-ticker.C:
				r.draw()
			}
		}
	})
	return func() {
		close(done)
		ticking.Wait()
		r.mu.Lock()
		defer r.mu.Unlock()
		r.term.clear()
		r.term = nil
	}
}

func (r *report) draw() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.redraw(time.Now())
}

// redraw writes the total line again. The caller holds r.mu.
func (r *report) redraw(now time.Time) {
	r.drawn = now
	r.term.show(r.total.line(now, r.term.columns()))
}

// print writes one line above the total line. The caller holds r.mu.
func (r *report) print(w io.Writer, color, text string) {
	if r.term == nil {
		fmt.Fprintln(w, text)
		return
	}
	r.term.clear()
	fmt.Fprintln(w, r.term.paint(color, text))
	r.redraw(time.Now())
}

// event prints one event of a Puller.
func (r *report) event(e puller.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.json {
		r.encode(e)
		return
	}
	if r.total != nil {
		r.total.event(e)
	}
	if text := eventText(e, r.term != nil); text != "" {
		r.print(r.stdout, "", text)
	} else if now := time.Now(); r.term != nil && now.Sub(r.drawn) >= drawEvery {
		r.redraw(now)
	}
}

// eventText returns the line for an event, or "" if the event has no line. With brief
// set, a total line shows the progress, so only failures and complete images have a
// line.
func eventText(e puller.Event, brief bool) string {
	switch e.Reason {
	case puller.EventAttempt:
		if e.Attempt.SourceFailed {
			break // no registry was asked
		}
		return fmt.Sprintf("%s: %s: %s", e.Image, e.Attempt.From, answerText(*e.Attempt))
	case puller.EventProgress:
		if line := blobLine(*e.Progress); line != "" && (!brief || e.Progress.State == puller.BlobRestarted) {
			return e.Image + ": " + line
		}
		return ""
	case puller.EventFailed, puller.EventHint, puller.EventInspectFailed, puller.EventNeverPull:
		// The error that the call returns has the same text, and the hints.
		return ""
	case puller.EventPulled:
		if brief {
			return "" // the line of pulled follows
		}
		if e.Attempt != nil {
			return fmt.Sprintf("%s: %s: accepted\n%s", e.Image, e.Attempt.From, withUnit(e.Message))
		}
	case puller.EventPulling:
		if brief {
			return ""
		}
	}
	return e.Message
}

// pulled reports an image that is complete in the store.
func (r *report) pulled(img puller.Image) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.json {
		r.encode(struct {
			Image    string        `json:"image"`
			Digest   digest.Digest `json:"digest"`
			Manifest digest.Digest `json:"manifest"`
			Platform string        `json:"platform"`
			Size     int64         `json:"size"`
		}{img.Ref.String(), img.Digest, img.Manifest, index.FormatPlatform(img.Platform), img.Size})
		return
	}
	if r.total != nil {
		r.total.finished++
	}
	r.print(r.stdout, green, fmt.Sprintf("%s  %s  %s", img.Digest, index.FormatPlatform(img.Platform), img.Ref))
}

// failed reports an image that could not be pulled.
func (r *report) failed(image string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.json {
		r.encode(struct {
			Image string `json:"image"`
			Error string `json:"error"`
		}{image, oneLine(err)})
	}
	if r.total != nil {
		r.total.finished++
	}
	r.print(r.stderr, "", "pull: "+oneLine(err))
}

// decision prints a Decision of Explain.
func (r *report) decision(d puller.Decision) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.json {
		r.encode(d)
		return
	}
	fmt.Fprintln(r.stdout, d.String())
}

func (r *report) encode(v any) {
	// An error here means that the program which reads the output has ended.
	_ = json.NewEncoder(r.stdout).Encode(v)
}

// answerText returns the answer of the registry to a credential.
func answerText(a puller.Answer) string {
	if a.Status == 0 {
		return a.Error
	}
	text := fmt.Sprintf("%d", a.Status)
	for _, code := range a.Codes {
		text += " " + code
	}
	return text + " from " + a.Host
}

// withUnit returns the kubelet's message about a pulled image. The size at its end, which the
// kubelet writes in bytes, gets the unit that other lines have.
func withUnit(message string) string {
	text, size, found := strings.Cut(message, "Image size: ")
	if n, err := strconv.ParseInt(strings.TrimSuffix(size, " bytes."), 10, 64); found && err == nil {
		return text + "Image size: " + bytesText(n) + "."
	}
	return message
}

// blobLine returns the line for a finished blob, or "" for a blob that is being fetched.
func blobLine(p puller.Progress) string {
	switch {
	case p.Blob.Digest == "":
		return ""
	case p.State == puller.BlobPresent:
		return fmt.Sprintf("blob %s already present (%s)", short(p.Blob.Digest), bytesText(p.Blob.Size))
	case p.State == puller.BlobStored && p.Resumed > 0:
		return fmt.Sprintf("blob %s stored (%s, of which %s kept from an earlier try); %s of %s in all", short(p.Blob.Digest), bytesText(p.Blob.Size), bytesText(p.Resumed), bytesText(p.TotalDone), bytesText(p.Total))
	case p.State == puller.BlobStored:
		return fmt.Sprintf("blob %s stored (%s); %s of %s in all", short(p.Blob.Digest), bytesText(p.Blob.Size), bytesText(p.TotalDone), bytesText(p.Total))
	case p.State == puller.BlobRestarted:
		return fmt.Sprintf("blob %s: the bytes that had arrived were wrong, and are fetched again", short(p.Blob.Digest))
	}
	return ""
}

// short returns the first characters of a digest, which are enough to distinguish
// blobs.
func short(d digest.Digest) string {
	const length = len("sha256:") + 12
	return string(d)[:min(length, len(d))]
}

func bytesText(n int64) string {
	switch {
	case n < 1<<10:
		return fmt.Sprintf("%d B", n)
	case n < 1<<20:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	case n < 1<<30:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%.2f GiB", float64(n)/(1<<30))
}
