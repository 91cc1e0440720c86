package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
	"github.com/pullkit/pullkit/index"
	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/puller/containerd"
	"github.com/pullkit/pullkit/puller/content"
)

// A report prints each event as a line of text, or as a line of JSON.
type report struct {
	mu             sync.Mutex // several pulls send events at the same time
	stdout, stderr io.Writer
	json           bool
}

func (r *report) warn(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	fmt.Fprintln(r.stderr, "containerd:", text)
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
	case puller.EventFailed, puller.EventHint, puller.EventInspectFailed, puller.EventNeverPull:
		return // the error that the call returns has the same text, and the hints
	case puller.EventAttempt:
		if !e.Attempt.SourceFailed {
			fmt.Fprintf(r.stdout, "%s: %s: %s\n", e.Image, e.Attempt.From, e.Attempt.Error)
		}
		return
	case puller.EventProgress:
		if line := blobLine(*e.Progress); line != "" {
			fmt.Fprintf(r.stdout, "%s: %s\n", e.Image, line)
		}
		return
	case puller.EventPulled:
		if e.Attempt != nil {
			fmt.Fprintf(r.stdout, "%s: %s: accepted\n", e.Image, e.Attempt.From)
		}
	}
	fmt.Fprintln(r.stdout, e.Message)
}

// blobLine returns the line for a blob that is stored, or whose bytes were wrong, and "" for
// a blob that is being fetched.
func blobLine(p puller.Progress) string {
	switch {
	case p.Blob.Digest == "":
		return ""
	case p.State == puller.BlobPresent:
		return fmt.Sprintf("blob %s is in containerd already (%d bytes)", p.Blob.Digest, p.Blob.Size)
	case p.State == puller.BlobStored:
		return fmt.Sprintf("blob %s stored (%d bytes, of which %d were kept from an earlier try); %d of %d in all",
			p.Blob.Digest, p.Blob.Size, p.Resumed, p.TotalDone, p.Total)
	case p.State == puller.BlobRestarted:
		return fmt.Sprintf("blob %s: the bytes that had arrived were wrong, and are fetched again", p.Blob.Digest)
	}
	return ""
}

// pulled reports an image that is complete in containerd.
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
	fmt.Fprintln(r.stderr, "containerd:", oneLine(err))
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

// oneLine returns err as one line for the user, with a hint about what to do.
func oneLine(err error) string {
	text := strings.Join(strings.FieldsFunc(err.Error(), func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
	switch {
	case errors.Is(err, containerd.ErrPrivate):
		text += " (let the kubelet pull it, or give -private to put it there for every Pod)"
	case errors.Is(err, content.ErrUnauthorized), errors.Is(err, content.ErrDenied):
		text += " (give credentials for this image with -secret or -config)"
	case errors.Is(err, content.ErrNetwork), errors.Is(err, content.ErrTimeout):
		text += " (containerd keeps what has arrived; run again to go on)"
	}
	return text
}
