package puller

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/internal/panics"
	"github.com/pullkit/pullkit/reference"
)

// candidates are the credentials that one request may try: those of its own keyring,
// which has the Pod's secrets, then those of the node.
type candidates struct {
	pod  credentials.Keyring // nil: none
	node credentials.Keyring // nil: none

	namespace      string // of the Pod
	keepDuplicates bool   // Kubelet.KeepDuplicates
	nodeIsShared   bool   // the node's keyring yields the same for every Pod
}

// A candidate is a credential to try, or the error of a source that gave none.
type candidate struct {
	ofPod  bool // from the request's keyring, not from the node's
	cred   credentials.Credential
	err    error
	mirror string // the image's name at the mirror that accepted it; "" for the registry
	// unconfirmed says that neither the registry nor a mirror has accepted the credential.
	unconfirmed bool
}

func newCandidates(req Request, config *Config) *candidates {
	_, podDependent := config.Keyring.(credentials.PodKeyring)
	return &candidates{
		pod:            forPod(req.Keyring, req.Pod),
		node:           forPod(config.Keyring, req.Pod),
		namespace:      req.Pod.Namespace,
		keepDuplicates: config.Kubelet.KeepDuplicates,
		nodeIsShared:   !podDependent,
	}
}

// forPod returns the keyring of one Pod. It is not credentials.Join(ring).For(pod), because
// a joined keyring is an Explainer also if ring is not one, and mayRefuse needs to know.
func forPod(ring credentials.Keyring, pod credentials.Pod) credentials.Keyring {
	if ring, ok := ring.(credentials.PodKeyring); ok {
		return ring.For(pod)
	}
	return ring
}

// all yields the candidates in the order in which they are tried. A credential that both
// keyrings have is tried once. It does not compare the credentials of one keyring with
// each other, because keyrings do that themselves.
func (c *candidates) all(ctx context.Context, ref reference.Reference, yield func(candidate) bool) {
	var ofPod []credentials.Credential
	more := true
	c.podCandidates(ctx, ref, func(cred credentials.Credential, err error) bool {
		if err == nil {
			ofPod = append(ofPod, cred)
		}
		more = yield(candidate{ofPod: true, cred: cred, err: err})
		return more
	})
	if !more || c.node == nil {
		return
	}
	for cred, err := range c.node.Lookup(ctx, ref) {
		if err == nil && !c.keepDuplicates && slices.ContainsFunc(ofPod, cred.Same) {
			continue
		}
		if !yield(candidate{cred: cred, err: err}) {
			return
		}
	}
}

// podCandidates yields the candidates of the request's keyring. For a Secret of another
// namespace than the Pod's it yields an error.
func (c *candidates) podCandidates(ctx context.Context, ref reference.Reference, yield func(credentials.Credential, error) bool) {
	if c.pod == nil {
		return
	}
	for cred, err := range c.pod.Lookup(ctx, ref) {
		if err == nil {
			err = c.foreign(cred.Origin)
		}
		if !yield(cred, err) {
			return
		}
	}
}

// ofPodOnly returns the candidates of the request's keyring.
func (c *candidates) ofPodOnly() *candidates {
	pod := *c
	pod.node = nil
	return &pod
}

// A ForeignSecretError says that a pull secret belongs to another namespace than the Pod.
// Kubernetes does not allow that, so the secret was not used.
type ForeignSecretError struct {
	Origin    credentials.Origin
	Namespace string // of the Pod
}

// Error returns a text with the Pod's namespace. It does not name the Secret, because the
// list of attempts that has the error names it.
func (e *ForeignSecretError) Error() string {
	return fmt.Sprintf("the Secret is of another namespace than the Pod, which is in %s", quote(e.Namespace))
}

// foreign returns an error for a secret of another namespace than the Pod's. The node's
// keyring is not checked: its credentials are for every Pod.
func (c *candidates) foreign(o credentials.Origin) error {
	if o.Kind != credentials.KindSecret || c.namespace == "" || o.Namespace == c.namespace {
		return nil
	}
	return &ForeignSecretError{Origin: o, Namespace: c.namespace}
}

// knownForeign returns the error of the first secret that foreign refuses. It makes no
// look-up, so it does not see what only a look-up shows.
func (c *candidates) knownForeign(ref reference.Reference) error {
	explainer, ok := c.pod.(credentials.Explainer)
	if !ok || c.namespace == "" {
		return nil
	}
	for note := range explainer.Explain(ref) {
		if err := c.foreign(note.Origin); err != nil && note.Matched {
			return err
		}
	}
	return nil
}

// A fingerprint identifies the credentials that a request can try, as far as they are
// known before a helper or a plugin runs.
type fingerprint struct {
	pod, node uint64
	namespace string // of the Pod, if it decides which secrets are refused
	mirrors   uint64 // of the candidates for the image's names at mirrors; see mirrorKeys
}

// fingerprint is equal for requests that can try the same credentials for ref. It is nil
// if the request's keyring has no fingerprint, or if the node's keyring has none and
// depends on the Pod.
func (c *candidates) fingerprint(ref reference.Reference) *fingerprint {
	pod, podKnown := keyringFingerprint(c.pod, ref)
	node, nodeKnown := keyringFingerprint(c.node, ref)
	if !podKnown || !nodeKnown && !c.nodeIsShared {
		return nil
	}
	f := &fingerprint{pod: pod, node: node}
	if c.mayRefuse(ref) {
		f.namespace = c.namespace
	}
	return f
}

// mayRefuse reports whether a secret may be refused for its namespace.
func (c *candidates) mayRefuse(ref reference.Reference) bool {
	if c.pod == nil || c.namespace == "" {
		return false
	}
	_, ok := c.pod.(credentials.Explainer)
	return !ok || c.knownForeign(ref) != nil
}

func keyringFingerprint(k credentials.Keyring, ref reference.Reference) (sum uint64, known bool) {
	if k == nil {
		return 0, true
	}
	if f, ok := k.(credentials.Fingerprinter); ok {
		return f.Fingerprint(ref), true
	}
	return 0, false
}

// problems lists the entries that the request's keyring could not use and that can concern
// ref, such as malformed secrets. For the zero Reference it lists all entries that could
// not be used. An entry that is used in spite of a warning, such as a file that other
// users can read, is not a problem.
func (c *candidates) problems(ref reference.Reference) []credentials.Attempt {
	explainer, ok := c.pod.(credentials.Explainer)
	if !ok {
		return nil
	}
	var out []credentials.Attempt
	for note := range explainer.Explain(ref) {
		if note.Err == nil {
			continue
		}
		a := credentials.Attempt{SourceFailed: true, Err: note.Err}
		var entry *credentials.Error
		if errors.As(note.Err, &entry) {
			if entry.Warning() {
				continue
			}
			a.Origin, a.Err = entry.Origin, entry.Err
		}
		out = append(out, a)
	}
	return out
}

// knownFault returns the first error of the request's secrets, as far as it is known
// without a look-up.
func (c *candidates) knownFault(ref reference.Reference) error {
	for _, a := range c.problems(reference.Reference{}) {
		return fmt.Errorf("%v: %w", a.Origin, a.Err)
	}
	return c.knownForeign(ref)
}

// fault returns the first error of any source. It runs helpers and plugins.
func (c *candidates) fault(ctx context.Context, ref reference.Reference) error {
	if err := c.knownFault(ref); err != nil {
		return err
	}
	var fault error
	c.all(ctx, ref, func(found candidate) bool {
		fault = found.err
		return fault == nil
	})
	return fault
}

// maxHints is the number of hints in an error, which may be kept for a long time.
const maxHints = 100

// hints lists the notes of the keyrings that name a possible cause why no credential
// helped for ref: Secrets that give no credential, helpers that were not asked, entries of
// the node that were left out, and logins that look mistyped. It leaves out the notes that
// are attempts.
func (c *candidates) hints(ref reference.Reference) []error {
	var hints []error
	for i, ring := range []credentials.Keyring{c.pod, c.node} {
		explainer, ok := ring.(credentials.Explainer)
		if !ok {
			continue
		}
		for note := range explainer.Explain(ref) {
			var problem *credentials.Error // those of the Pod's keyring that are not warnings are attempts
			isAttempt := i == 0 && !(errors.As(note.Err, &problem) && problem.Warning())
			if note.Err != nil && !isAttempt && len(hints) < maxHints {
				hints = append(hints, note.Err)
			}
		}
	}
	return hints
}

// A candidateLoop is the keyring that credentials.Each goes through. It knows from which
// keyring the current candidate comes. It reports a source that gave no credential at
// once. Each reports such a source only after all candidates have failed.
type candidateLoop struct {
	*candidates
	report func(credentials.Attempt)
	ofPod  bool // of the current candidate

	mu    sync.Mutex
	next  func() (candidate, bool) // nil outside a look-up
	ahead []candidate              // found by last; they are tried next
}

// Lookup implements credentials.Keyring.
func (l *candidateLoop) Lookup(ctx context.Context, ref reference.Reference) iter.Seq2[credentials.Credential, error] {
	return func(yield func(credentials.Credential, error) bool) {
		next, stop := iter.Pull(func(yield func(candidate) bool) {
			// iter.Pull raises a panic without the stack that it had.
			panics.Catch(func() { l.all(ctx, ref, yield) }, (*panics.Error).Raise)
		})
		defer stop()
		l.begin(next)
		defer l.begin(nil)
		for {
			found, ok := l.take()
			l.ofPod = found.ofPod // false for the anonymous try that may follow the last candidate
			if !ok {
				return
			}
			if found.err != nil && ctx.Err() == nil {
				l.report(credentials.Attempt{Origin: found.cred.Origin, SourceFailed: true, Err: found.err})
			}
			if !yield(found.cred, found.err) {
				return
			}
		}
	}
}

func (l *candidateLoop) begin(next func() (candidate, bool)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.next, l.ahead = next, nil
}

// take returns the next candidate.
func (l *candidateLoop) take() (candidate, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.ahead) > 0 {
		found := l.ahead[0]
		l.ahead = l.ahead[1:]
		return found, true
	}
	return l.next()
}

// last implements Spec.Last: it reports whether no other credential follows the current
// candidate. It looks up the next candidate, as Each would do after a refusal.
func (l *candidateLoop) last() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.next == nil {
		return true
	}
	for _, found := range l.ahead {
		if found.err == nil {
			return false
		}
	}
	for {
		found, ok := l.next()
		if !ok {
			return true
		}
		l.ahead = append(l.ahead, found)
		if found.err == nil {
			return false
		}
	}
}
