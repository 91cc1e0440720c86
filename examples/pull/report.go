package main

import (
	"encoding/json"
	"fmt"
	"io"
	"sync"

	"github.com/opencontainers/go-digest"
	"github.com/pullkit/pullkit/index"
	"github.com/pullkit/pullkit/puller"
)

// A report prints what happens, a line each: for people, or as JSON.
type report struct {
	mu             sync.Mutex // events of several pulls come at once
	stdout, stderr io.Writer
	json           bool
}

func newReport(stdout, stderr io.Writer, asJSON bool) *report {
	return &report{stdout: stdout, stderr: stderr, json: asJSON}
}

// event prints one event of a Puller.
func (r *report) event(e puller.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.json {
		r.encode(e)
		return
	}
	switch e.Reason {
	case puller.EventAttempt:
		fmt.Fprintf(r.stdout, "%s: %s: %s\n", e.Image, e.Attempt.From, answerText(*e.Attempt))
	case puller.EventProgress:
		if line := blobLine(*e.Progress); line != "" {
			fmt.Fprintf(r.stdout, "%s: %s\n", e.Image, line)
		}
	case puller.EventFailed, puller.EventInspectFailed, puller.EventNeverPull:
		// The error that the call returns says the same, and what can be done.
	case puller.EventPulled:
		if e.Attempt != nil {
			fmt.Fprintf(r.stdout, "%s: %s: accepted\n", e.Image, e.Attempt.From)
		}
		fmt.Fprintln(r.stdout, e.Message)
	default:
		fmt.Fprintln(r.stdout, e.Message)
	}
}

// pulled ends an image that is whole in the store.
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
	fmt.Fprintf(r.stdout, "%s  %s  %s\n", img.Digest, index.FormatPlatform(img.Platform), img.Ref)
}

// failed ends an image that is not.
func (r *report) failed(image string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.json {
		r.encode(struct {
			Image string `json:"image"`
			Error string `json:"error"`
		}{image, oneLine(err)})
	}
	fmt.Fprintln(r.stderr, "pull:", oneLine(err))
}

// decision prints what Explain found.
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
	// An error here is one of the pipe's; whoever reads it is gone.
	_ = json.NewEncoder(r.stdout).Encode(v)
}

// answerText says what a credential was told.
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

// blobLine says that a blob is finished; "" while it is under way.
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
		return fmt.Sprintf("blob %s: what had arrived was wrong, fetched anew", short(p.Blob.Digest))
	}
	return ""
}

// short is enough of a digest to tell blobs apart.
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
