package puller

import (
	"errors"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/index"
	"github.com/pullkit/pullkit/pullpolicy"
	"github.com/pullkit/pullkit/reference"
)

// A Request asks for one image. Only Image is needed.
type Request struct {
	Image string // as written in a Pod
	// Policy is the container's imagePullPolicy; not set = what the API server
	// fills in: Always for the tag latest, IfNotPresent otherwise.
	Policy pullpolicy.Policy
	// Keyring is the Pod's imagePullSecrets, tried before the node's. One that is a
	// credentials.PodKeyring, such as plugins that want a service account's token,
	// is asked for Pod. nil = none.
	// Pulls whose keyrings are no credentials.Fingerprinter are not shared with
	// others, and a repaired secret among theirs opens no back-off window.
	Keyring credentials.Keyring
	// Pod is the one the image is for. Its UID scopes the back-off; secrets of
	// another namespace than its own are refused, and hide no equal one of its own.
	// Zero = no Pod.
	Pod credentials.Pod
	// Platform is what the image is for; zero = Config.Platform. One without OS or
	// architecture is refused, with an error that is an index.ErrPlatform.
	Platform ocispec.Platform
	// Wait makes PullAll use PullWait for this image. Pull and PullWait ignore it.
	Wait bool
}

// A task is a request, made ready: parsed, defaulted, and with its call's number.
type task struct {
	req      Request
	ref      reference.Reference
	written  string // :latest appended where neither tag nor digest was written
	platform ocispec.Platform
	policy   pullpolicy.Policy
	key      backoffKey
	ring     *ring
	call     uint64
	started  time.Time
	dry      bool // of Explain: nothing is written down
}

// newTask reads the request. Its errors are final: no wait and no credential
// mends them.
func (p *Puller) newTask(req Request) (*task, *Error) {
	t := &task{req: req, platform: req.Platform, call: p.calls.Add(1), started: time.Now()}
	ref, how, err := reference.ParseWritten(req.Image)
	if err != nil {
		// What is told of a name must not hold a password.
		var malformed *reference.ParseError
		if errors.As(err, &malformed) {
			t.req.Image = malformed.Input
		}
		return t, t.fail(ErrInvalidImageName, err)
	}
	// A name can be a small part of a large manifest, which must not stay in
	// memory for as long as a back-off lasts.
	t.ref = ref.Clone()
	t.written = how.CRI
	if t.policy, err = p.policy(req); err != nil {
		return t, &Error{Image: req.Image, Err: err}
	}
	if isZeroPlatform(t.platform) {
		t.platform = p.platform
	} else if err := checkPlatform(t.platform); err != nil {
		return t, &Error{Image: req.Image, Err: err}
	}
	t.key = p.keyOf(t)
	t.ring = p.newRing(req)
	return t, nil
}

// policy is the one that counts: AlwaysPullImages, then the request's, then the default.
func (p *Puller) policy(req Request) (pullpolicy.Policy, error) {
	switch {
	case p.config.AlwaysPull:
		return pullpolicy.Always, nil
	case p.config.Kubelet.PolicyAsWritten && !req.Policy.Looks():
		return pullpolicy.Always, nil
	case req.Policy == "":
		return pullpolicy.Default(req.Image), nil
	}
	return pullpolicy.Parse(string(req.Policy))
}

// checkPlatform finds what is wrong with a platform that no image is for: without it
// a typo would look like an image that no registry has.
func checkPlatform(p ocispec.Platform) error {
	if _, err := index.Select(ocispec.Index{}, p); errors.Is(err, index.ErrPlatform) {
		return err
	}
	return nil
}

// A backoffKey is what a window is kept for.
type backoffKey struct {
	image, pod, platform string
}

func (p *Puller) keyOf(t *task) backoffKey {
	if p.config.Kubelet.NameAsWritten {
		return backoffKey{image: strings.Clone(t.req.Image), pod: strings.Clone(t.req.Pod.UID)}
	}
	return backoffKey{t.ref.String(), strings.Clone(t.req.Pod.UID), platformKey(t.platform)}
}

// platformKey is equal for platforms that are one to every choice.
func platformKey(p ocispec.Platform) string {
	p = index.Normalize(p)
	return strings.Join(append([]string{p.OS, p.Architecture, p.Variant, p.OSVersion}, p.OSFeatures...), "\x00")
}

func (t *task) spec() Spec {
	return Spec{Ref: t.ref, Written: t.written, Platform: t.platform}
}
