package puller

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/internal/await"
	"github.com/pullkit/pullkit/internal/panics"
	"github.com/pullkit/pullkit/internal/share"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/reference"
)

// A pullKey has all that two calls must have in common to share one pull. Pulls with equal
// keys would try the same candidates.
type pullKey struct {
	ref      reference.Reference
	written  string // under Kubelet.NameAsWritten only
	platform string
	handler  string
	secrets  fingerprint
	admitFor string // the Pod's namespace, under Config.Admission only
	admitBy  string // the Fingerprint of Config.Admission when the call started
	call     uint64 // the number of a call that shares its pull with no other call; otherwise 0
}

// A sharedPull is one pull for all calls that wait for it.
type sharedPull struct {
	task      *task         // of the call that started the pull
	mirrors   *mirrorKeys   // of that call
	secrets   *fingerprint  // of that call; nil if there is none
	announced chan struct{} // closed when that call has sent its first event
	result    pullResult    // set before the run is done
}

type pullRun = share.Run[pullKey, *waiter, *sharedPull]

// A pullResult is the result of a shared pull.
type pullResult struct {
	image    Image
	accepted candidate     // the candidate that opened the image
	took     time.Duration // without the time in the queue
	// err is the error of the call that started the pull. Its RetryAfter is for how long the
	// registry asked every client to wait.
	err *Error
}

// A waiter is one call that waits for a shared pull.
type waiter struct {
	task   *task
	shared bool // another call started the pull

	mu      sync.Mutex
	listens bool   // the call gets events: from its Pulling event until it leaves
	err     *Error // of the pull, for this call; set before the run is done
}

// setListens sets whether w gets events. After setListens(false) has returned, w gets
// none.
func (w *waiter) setListens(on bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.listens = on
}

// eachListener calls emit for every call that waits for the run and gets its events.
func eachListener(run *pullRun, emit func(*waiter)) {
	for _, w := range run.Waiters() {
		func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			if w.listens {
				emit(w)
			}
		}()
	}
}

// pullShared pulls the image, or waits for an equal pull that runs already.
func (p *Puller) pullShared(ctx context.Context, t *task, mirrors *mirrorKeys, secrets *fingerprint) outcome {
	w := &waiter{task: t}
	key, ok := p.pullKey(ctx, t, secrets)
	if !ok {
		return outcome{err: t.ended(ctx)}
	}
	run, first := p.pulls.Join(ctx, key, w, func() *sharedPull {
		return &sharedPull{task: t, mirrors: mirrors, secrets: secrets, announced: make(chan struct{})}
	})
	w.shared = !first
	waiting := true
	defer func() {
		if waiting { // Config.Events panicked
			p.leave(run, w)
		}
	}()
	if first {
		run.Go(func(ctx context.Context) {
			<-run.Value.announced
			run.Value.result = p.attempt(ctx, run)
		}, func(waiters []*waiter, panicked *panics.Error) {
			if panicked == nil { // a panic is not an answer of a registry
				p.countForBackoff(run.Value, waiters)
			}
		})
	}
	p.announce(run, w)
	select {
	case <-run.Done():
		waiting = false
		w.setListens(false)
		run.Raise()
	case <-ctx.Done():
		waiting = false
		p.leave(run, w)
		return outcome{asked: true, shared: w.shared, err: t.ended(ctx)}
	}
	result := run.Value.result
	o := outcome{asked: true, shared: w.shared, image: result.image, took: result.took, err: w.err}
	if o.err == nil {
		answer := newAnswer(credentials.Attempt{Origin: result.accepted.cred.Origin})
		o.answer = &answer
	}
	return o
}

// pullKey returns the key of a pull, or false if ctx has ended.
func (p *Puller) pullKey(ctx context.Context, t *task, secrets *fingerprint) (key pullKey, ok bool) {
	key = pullKey{ref: t.ref, platform: platformKey(t.platform), handler: t.handler}
	if p.config.Kubelet.NameAsWritten {
		key.written = t.written
	}
	if p.admission != nil {
		if key.admitBy, ok = p.admission.fingerprint(ctx); !ok {
			return key, false
		}
		if key.admitFor = t.pod.Namespace; key.admitBy == "" {
			key.call = t.call // answers of Config.Admission are not remembered, so each call asks for itself
		}
	}
	if secrets == nil {
		key.call = t.call
	} else {
		key.secrets = *secrets
	}
	return key, true
}

// announce sends the call's Pulling event. The pull runs only after the first call has
// sent that event, so that this event comes before all others. If Config.Events panics,
// the pull still runs, because other calls may wait for it.
func (p *Puller) announce(run *pullRun, w *waiter) {
	if !w.shared {
		defer close(run.Value.announced)
	}
	p.events.pulling(w)
	w.setListens(true)
}

// leave takes w out of the run. If w was the last call of the run, leave cancels the pull
// and waits a moment until it has stopped.
func (p *Puller) leave(run *pullRun, w *waiter) {
	w.setListens(false)
	if run.Leave(w) {
		await.Done(run.Context(), run.Done())
	}
}

// attempt waits for its turn and makes one attempt. It writes the result into the records
// even if all calls have left, because the image is in the store.
func (p *Puller) attempt(ctx context.Context, run *pullRun) pullResult {
	t := run.Value.task
	if err := p.slots.acquire(ctx); err != nil {
		return pullResult{err: t.fail(ErrImagePull, err)}
	}
	defer p.slots.release()
	if err := p.rate.take(); err != nil {
		return pullResult{err: t.fail(ErrImagePull, err)}
	}
	start := time.Now()
	note, err := p.access.begin(ctx, t)
	if err != nil {
		return pullResult{err: t.fail(ErrImagePull, fmt.Errorf("the records cannot note that the pull starts: %w", err))}
	}
	defer note.close()
	spec := t.spec()
	spec.Progress = p.events.progress(run)
	admission := p.admission.ofPull(t)
	spec.Admit = admission.hook()
	img, accepted, err := tryEach(ctx, p, t, run.Value.mirrors, spec, func(ctx context.Context, spec Spec) (Image, error) {
		img, err := p.config.Runtime.Pull(ctx, spec)
		if err != nil {
			return Image{}, err
		}
		return admission.setAnswer(ctx, img, spec)
	}, func(a credentials.Attempt) { p.events.attemptOf(run, a) })
	r := pullResult{image: img, accepted: accepted, took: time.Since(start)}
	if err != nil {
		r.err = p.attemptsError(t, err)
	}
	err = note.settle(ctx, r)
	if err == nil && r.err == nil {
		err = admission.record(ctx, img)
	}
	if err != nil {
		p.config.Logger.Warn("the record of a pull could not be written", "image", t.ref.String(), "err", err)
		p.events.notRecorded(run)
	}
	return r
}

// countForBackoff counts the result of a pull for the calls that still wait for it. It
// counts once for each key, however many calls have that key, and before these calls get
// the result.
func (p *Puller) countForBackoff(pull *sharedPull, waiters []*waiter) {
	result, secrets := pull.result, pull.secrets
	if result.err != nil && len(result.err.Attempts) == 0 {
		secrets = nil // no secret was tried, for example because of Config.QPS
	}
	counted := map[backoffKey]*Error{}
	for _, w := range waiters {
		key := w.task.key
		if result.err == nil {
			if !p.config.Kubelet.KeepStreak {
				p.backoff.succeed(key)
			}
			continue
		}
		if counted[key] == nil {
			err := *result.err
			err.Image = strings.Clone(w.task.image) // the error outlasts the request
			err.RetryAfter = p.backoff.fail(key, secrets, &err, err.RetryAfter)
			counted[key] = &err
		}
		w.err = counted[key]
	}
}

// tryEach calls ask with one candidate after another, until one call succeeds. accepted is
// the candidate of that call, or the candidate that a mirror accepted during that call.
// tryEach calls report for each attempt that failed and for each source that gave no
// credential.
func tryEach[T any](ctx context.Context, p *Puller, t *task, mirrors *mirrorKeys, spec Spec, ask func(context.Context, Spec) (T, error), report func(credentials.Attempt)) (got T, accepted candidate, err error) {
	loop := &candidateLoop{candidates: t.candidates, report: report}
	got, err = credentials.Each(ctx, loop, t.ref, func(ctx context.Context, cred credentials.Credential) (T, error) {
		spec := spec
		var opening content.Opening
		spec.Credential, spec.Last, spec.Mirrors = cred, loop.last, mirrors.keyring()
		spec.Opened = func(o content.Opening) { opening = o }
		got, err := ask(ctx, spec)
		if err == nil {
			accepted = mirrors.opened(ctx, opening, candidate{ofPod: loop.ofPod, cred: cred})
			return got, nil
		}
		if ctx.Err() == nil {
			report(credentials.Attempt{Origin: cred.Origin, Err: err})
		}
		var retry *RetryError
		switch {
		case p.config.Kubelet.TryAllOnError:
			err = &unstoppable{err}
		case errors.As(err, &retry):
			err = credentials.Stop(err)
		}
		return got, err
	})
	return got, accepted, err
}

// An unstoppable is an error that credentials.Each does not stop at. It hides what err
// wraps.
type unstoppable struct{ err error }

func (u *unstoppable) Error() string { return u.err.Error() }

// attemptsError returns the error of a call for an error of tryEach. Its RetryAfter is for
// how long the registry asked every client to wait.
func (p *Puller) attemptsError(t *task, err error) *Error {
	var all *credentials.AttemptsError
	if !errors.As(err, &all) {
		return t.fail(ErrImagePull, err)
	}
	attempts := make([]credentials.Attempt, 0, len(all.Attempts))
	var after time.Duration
	for _, a := range all.Attempts {
		var u *unstoppable
		if errors.As(a.Err, &u) {
			a.Err = u.err
		}
		var retry *RetryError
		if errors.As(a.Err, &retry) && !p.config.Kubelet.TryAllOnError {
			after = max(after, retry.After)
		}
		attempts = append(attempts, a)
	}
	e := t.fail(reasonOfAttempts(attempts, p.config.Kubelet.ReasonFromText), nil)
	e.RetryAfter = min(after, maxRetryAfter)
	e.Attempts = append(t.candidates.problems(t.ref), attempts...)
	e.Hints = t.candidates.hints(t.ref)
	e.Err = &credentials.AttemptsError{Image: all.Image, Attempts: e.Attempts, Ended: all.Ended}
	return e
}

// reasonOfAttempts returns the reason of the gravest answer, because a signature that is
// wrong for one credential is wrong for all. With fromText a reason counts only if all
// attempts gave the same answer.
func reasonOfAttempts(attempts []credentials.Attempt, fromText bool) Reason {
	for _, reason := range []Reason{ErrSignatureValidation, ErrRegistryUnavailable} {
		n := 0
		for _, a := range attempts {
			if errors.Is(a.Err, reason) {
				n++
			}
		}
		if n > 0 && (!fromText || n == len(attempts) && sameText(attempts)) {
			return reason
		}
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
