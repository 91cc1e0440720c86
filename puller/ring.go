package puller

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/internal/panics"
	"github.com/pullkit/pullkit/reference"
)

// A ring is what one request may try: the Pod's secrets, then the node's
// credentials.
type ring struct {
	pod  credentials.Keyring // nil: none
	node credentials.Keyring // nil: none

	namespace      string // of the Pod
	keepDuplicates bool
	nodeIsShared   bool // the node's keyring answers alike for every Pod
}

// An origin says which of the two keyrings a candidate came from.
type origin bool

const (
	fromPod  origin = true
	fromNode origin = false
)

func (p *Puller) newRing(req Request) *ring {
	_, podDependent := p.node.(credentials.PodKeyring)
	return &ring{
		pod:            credentials.For(req.Keyring, req.Pod),
		node:           credentials.For(p.node, req.Pod),
		namespace:      req.Pod.Namespace,
		keepDuplicates: p.config.Kubelet.KeepDuplicates,
		nodeIsShared:   !podDependent,
	}
}

// lookup yields the candidates with the keyring each came from. What both
// keyrings know is tried once; within one of them the keyring decides.
func (r *ring) lookup(ctx context.Context, ref reference.Reference, yield func(origin, credentials.Credential, error) bool) {
	var tried []credentials.Credential // the Pod's
	goOn := true
	r.lookupPod(ctx, ref, func(cred credentials.Credential, err error) bool {
		if err == nil {
			tried = append(tried, cred)
		}
		goOn = yield(fromPod, cred, err)
		return goOn
	})
	if !goOn || r.node == nil {
		return
	}
	for cred, err := range r.node.Lookup(ctx, ref) {
		if err == nil && !r.keepDuplicates && slices.ContainsFunc(tried, cred.Same) {
			continue
		}
		if !yield(fromNode, cred, err) {
			return
		}
	}
}

// lookupPod yields the Pod's candidates; those of another namespace are errors.
func (r *ring) lookupPod(ctx context.Context, ref reference.Reference, yield func(credentials.Credential, error) bool) {
	if r.pod == nil {
		return
	}
	for cred, err := range r.pod.Lookup(ctx, ref) {
		if err == nil {
			err = r.foreign(cred.Origin)
		}
		if !yield(cred, err) {
			return
		}
	}
}

// A ForeignSecretError says that a pull secret belongs to another namespace than
// the Pod, which Kubernetes does not allow. The secret was not used.
type ForeignSecretError struct {
	Origin    credentials.Origin
	Namespace string // of the Pod
}

// Error names the Pod's namespace; the Secret is named by whoever lists the attempt.
func (e *ForeignSecretError) Error() string {
	return fmt.Sprintf("the Secret is of another namespace than the Pod, which is in %s", quote(e.Namespace))
}

// foreign refuses secrets of another namespace than the Pod's. The node's own
// keyring is not asked that: it is for every Pod.
func (r *ring) foreign(o credentials.Origin) error {
	if o.Kind != credentials.KindSecret || r.namespace == "" || o.Namespace == r.namespace {
		return nil
	}
	return &ForeignSecretError{Origin: o, Namespace: r.namespace}
}

// A candidates keyring is the one that credentials.Each goes through: it
// remembers which of the two the candidate being tried came from, and tells of
// sources that could not answer, which Each does only if nothing else helps.
type candidates struct {
	*ring
	trying origin
	failed func(credentials.Attempt)

	mu    sync.Mutex
	next  func() (candidate, bool) // nil outside a look-up
	ahead []candidate              // looked up already, to be tried next
}

// A candidate is what a look-up yields.
type candidate struct {
	from origin
	cred credentials.Credential
	err  error
}

func (c *candidates) Lookup(ctx context.Context, ref reference.Reference) iter.Seq2[credentials.Credential, error] {
	return func(yield func(credentials.Credential, error) bool) {
		next, stop := iter.Pull(func(yield func(candidate) bool) {
			// iter.Pull raises a panic without the stack that it had.
			panics.Catch(func() {
				c.lookup(ctx, ref, func(from origin, cred credentials.Credential, err error) bool {
					return yield(candidate{from, cred, err})
				})
			}, (*panics.Error).Raise)
		})
		defer stop()
		c.begin(next)
		defer c.begin(nil)
		for {
			found, ok := c.take()
			if !ok {
				c.trying = fromNode // the anonymous try that follows belongs to nobody
				return
			}
			c.trying = found.from
			if found.err != nil && ctx.Err() == nil {
				c.failed(credentials.Attempt{Origin: found.cred.Origin, Source: true, Err: found.err})
			}
			if !yield(found.cred, found.err) {
				return
			}
		}
	}
}

func (c *candidates) begin(next func() (candidate, bool)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.next, c.ahead = next, nil
}

// take returns the next candidate.
func (c *candidates) take() (candidate, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.ahead) > 0 {
		found := c.ahead[0]
		c.ahead = c.ahead[1:]
		return found, true
	}
	return c.next()
}

// last reports whether no other credential follows the one being tried. It looks
// the next one up, which Each would do after a refusal.
func (c *candidates) last() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.next == nil {
		return true
	}
	for _, found := range c.ahead {
		if found.err == nil {
			return false
		}
	}
	for {
		found, ok := c.next()
		if !ok {
			return true
		}
		c.ahead = append(c.ahead, found)
		if found.err == nil {
			return false
		}
	}
}

// A ringPrint stands for what can be tried, as far as that is known without
// asking helpers and plugins.
type ringPrint struct {
	pod, node uint64
	namespace string // of the Pod, where it decides which secrets are refused
}

// fingerprint hashes what can be tried. ok is false if the hash does not cover
// all of it: then two equal ones mean nothing.
func (r *ring) fingerprint(ref reference.Reference) (sum ringPrint, ok bool) {
	pod, podOK := fingerprint(r.pod, ref)
	node, nodeOK := fingerprint(r.node, ref)
	sum = ringPrint{pod: pod, node: node}
	if r.refuses(ref) {
		sum.namespace = r.namespace
	}
	return sum, podOK && (nodeOK || r.nodeIsShared)
}

// refuses reports whether one of the Pod's candidates is refused, or may be.
func (r *ring) refuses(ref reference.Reference) bool {
	if r.pod == nil || r.namespace == "" {
		return false
	}
	_, ok := r.pod.(credentials.Explainer)
	return !ok || r.refused(ref) != nil
}

// refused is why the first of the Pod's candidates that is refused is, as far as
// that is known without a look-up.
func (r *ring) refused(ref reference.Reference) error {
	explainer, ok := r.pod.(credentials.Explainer)
	if !ok || r.namespace == "" {
		return nil
	}
	for note := range explainer.Explain(ref) {
		if err := r.foreign(note.Origin); err != nil && note.Matched {
			return err
		}
	}
	return nil
}

// knownFault is the first fault of the Pod's secrets that is known without a
// look-up; they stand before the node's credentials.
func (r *ring) knownFault(ref reference.Reference) error {
	for _, a := range r.problems() {
		return fmt.Errorf("%v: %w", a.Origin, a.Err)
	}
	return r.refused(ref)
}

func fingerprint(k credentials.Keyring, ref reference.Reference) (uint64, bool) {
	if k == nil {
		return 0, true
	}
	if f, ok := k.(credentials.Fingerprinter); ok {
		return f.Fingerprint(ref), true
	}
	return 0, false
}

// problemsFor lists what the Pod's keyring had to leave out and might have been
// for ref: an entry that is plainly for another image is no news.
func (r *ring) problemsFor(ref reference.Reference) []credentials.Attempt {
	return slices.DeleteFunc(r.problems(), func(a credentials.Attempt) bool {
		key := a.Origin.Key
		if key == "" {
			return false
		}
		if _, rest, ok := strings.Cut(key, "://"); ok { // its path may be that of the registry's API
			key, _, _ = strings.Cut(rest, "/")
		}
		matches, err := credentials.Match(key, ref.Name())
		return err == nil && !matches
	})
}

// maxHints bounds what is kept for an error that may be kept for long.
const maxHints = 100

// hints lists what was brought and may be why no credential helped with ref, and is
// not among the attempts: Secrets that give nothing, helpers that were not asked,
// entries of the node that were left out, logins that look mistyped.
func (r *ring) hints(ref reference.Reference) []error {
	var hints []error
	for i, ring := range []credentials.Keyring{r.pod, r.node} {
		explainer, ok := ring.(credentials.Explainer)
		if !ok {
			continue
		}
		ofNode := i == 1
		for note := range explainer.Explain(ref) {
			if note.Err != nil && (ofNode || isWarning(note.Err)) && len(hints) < maxHints {
				hints = append(hints, note.Err)
			}
		}
	}
	return hints
}

func isWarning(err error) bool {
	var w credentials.Warning
	return errors.As(err, &w)
}

// sourceAttempt says of a source, or of an entry of it, that it could not be used.
func sourceAttempt(err error) credentials.Attempt {
	a := credentials.Attempt{Source: true, Err: err}
	var entry *credentials.EntryError
	if errors.As(err, &entry) {
		a.Origin, a.Err = entry.Origin, entry.Err
	}
	return a
}

// problems lists what the Pod's keyring had to leave out: malformed secrets. What is
// used all the same, such as a file that others can read, is none of them.
func (r *ring) problems() []credentials.Attempt {
	var out []credentials.Attempt
	for _, err := range credentials.Problems(r.pod) {
		if !isWarning(err) {
			out = append(out, sourceAttempt(err))
		}
	}
	return out
}
