package puller

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/internal/redact"
)

// A failure is what an attempt ended with, before it is somebody's error.
type failure struct {
	reason   Reason
	attempts []credentials.Attempt
	err      error
	hints    []error
	after    time.Duration // how long the registry asked everybody to wait
}

func (f *failure) errorFor(t *task) *Error {
	// The error is kept for as long as the back-off lasts, the manifest that the
	// name may be a small part of should not be.
	return &Error{Reason: f.reason, Image: strings.Clone(t.req.Image), Attempts: f.attempts, Hints: f.hints, Err: f.err}
}

// attempt waits for its turn and makes one attempt.
func (p *Puller) attempt(f *flight) result {
	if err := p.slots.acquire(f.ctx); err != nil {
		return result{err: &failure{reason: ErrImagePull, err: err}}
	}
	defer p.slots.release()
	if err := p.rate.take(); err != nil {
		return result{err: &failure{reason: ErrImagePull, err: err}}
	}
	start := time.Now()
	t := f.task
	note, err := p.guard.begin(f.ctx, t)
	if err != nil {
		return result{err: &failure{reason: ErrImagePull, err: fmt.Errorf("record that the pull begins: %w", err)}}
	}
	defer note.close()
	r := p.tryEach(f, t)
	r.took = time.Since(start)
	if err := note.settle(f.ctx, r); err != nil {
		p.log.Warn("the record of a pull could not be written", "image", t.ref.String(), "err", err)
		f.tell(func(w *waiter) {
			p.emit(w.task, Event{Type: Warning, Reason: EventRecord, Shared: w.shared, Message: fmt.Sprintf(
				"Who may use image %q could not be recorded; its registry will be asked again", cutText(w.task.req.Image))})
		})
	}
	return r.result
}

// A tried is a result with the credential that brought it.
type tried struct {
	result
	with credentials.Credential
	from origin
}

// tryEach tries one credential after the other.
func (p *Puller) tryEach(f *flight, t *task) tried {
	ring := &candidates{ring: t.ring, failed: func(a credentials.Attempt) { p.tellAttempt(f, a) }}
	var out tried
	spec := t.spec()
	spec.Progress = p.progress(f)
	img, err := credentials.Each(f.ctx, ring, t.ref, func(ctx context.Context, cred credentials.Credential) (Image, error) {
		spec := spec
		spec.Credential, spec.Last = cred, ring.last
		img, err := p.config.Runtime.Pull(ctx, spec)
		if err == nil {
			out.with, out.from = cred, ring.trying
			answer := newAnswer(credentials.Attempt{Origin: cred.Origin})
			out.answer = &answer
			return img, nil
		}
		if ctx.Err() == nil {
			p.tellAttempt(f, credentials.Attempt{Origin: cred.Origin, Err: err})
		}
		return Image{}, p.steer(err)
	})
	out.image = img
	if err != nil {
		out.err = p.failed(t, err)
	}
	return out
}

func (p *Puller) tellAttempt(f *flight, a credentials.Attempt) {
	if p.config.Events == nil {
		return
	}
	answer := newAnswer(a)
	f.tell(func(w *waiter) {
		what := "Failed to pull image %q %s" // with which credential, and why
		if a.Source {
			what = "Unable to get a credential for image %q: %s"
		}
		text := fmt.Sprintf(what, cutText(w.task.req.Image), redact.Text(a.String()))
		p.emit(w.task, Event{Type: Warning, Reason: EventAttempt, Shared: w.shared, Attempt: &answer, Message: text})
	})
}

// progress is what the Runtime calls; nil if nobody listens.
func (p *Puller) progress(f *flight) func(Progress) {
	if p.config.Events == nil {
		return nil
	}
	return func(now Progress) {
		f.tell(func(w *waiter) {
			p.emit(w.task, Event{Reason: EventProgress, Shared: w.shared, Progress: &now})
		})
	}
}

// steer decides whether the loop goes on after err.
func (p *Puller) steer(err error) error {
	var retry *RetryError
	switch {
	case p.config.Kubelet.TryAllOnError:
		return &muffled{err}
	case errors.As(err, &retry):
		return credentials.Stop(err)
	}
	return err
}

// muffled hides from credentials.Each that an error wants to stop it.
type muffled struct{ err error }

func (m *muffled) Error() string { return m.err.Error() }

// failed makes of the loop's error what the callers get.
func (p *Puller) failed(t *task, err error) *failure {
	f := &failure{reason: ErrImagePull, err: err}
	var all *credentials.AttemptsError
	if !errors.As(err, &all) {
		return f
	}
	attempts := make([]credentials.Attempt, 0, len(all.Attempts))
	for _, a := range all.Attempts {
		var m *muffled
		if errors.As(a.Err, &m) {
			a.Err = m.err
		}
		var retry *RetryError
		if errors.As(a.Err, &retry) && !p.config.Kubelet.TryAllOnError {
			f.after = max(f.after, retry.After)
		}
		attempts = append(attempts, a)
	}
	f.reason = p.reasonOf(attempts)
	f.attempts = append(t.ring.problemsFor(t.ref), attempts...)
	f.hints = t.ring.hints(t.ref)
	f.err = &credentials.AttemptsError{Image: all.Image, Attempts: f.attempts, Ended: all.Ended}
	return f
}

// reasonOf names the failure. The gravest of several answers counts: a signature
// that is wrong is so whoever asks.
func (p *Puller) reasonOf(attempts []credentials.Attempt) Reason {
	for _, reason := range []Reason{ErrSignatureValidation, ErrRegistryUnavailable} {
		n := 0
		for _, a := range attempts {
			if errors.Is(a.Err, reason) {
				n++
			}
		}
		if n == 0 {
			continue
		}
		if p.config.Kubelet.ReasonFromText && (n < len(attempts) || !sameText(attempts)) {
			continue
		}
		return reason
	}
	return ErrImagePull
}

func sameText(attempts []credentials.Attempt) bool {
	for _, a := range attempts {
		if a.Err.Error() != attempts[0].Err.Error() {
			return false
		}
	}
	return true
}
