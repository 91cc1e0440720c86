package puller

import (
	"errors"
	"fmt"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/index"
	"github.com/pullkit/pullkit/internal/redact"
	"github.com/pullkit/pullkit/pullpolicy"
	"github.com/pullkit/pullkit/reference"
)

// A Request asks for one image. Only Image must be set.
type Request struct {
	Image string // the name, as written in a Pod
	// Policy is the container's imagePullPolicy. "" = what the API server fills in:
	// Always for the tag latest, IfNotPresent otherwise.
	Policy pullpolicy.Policy
	// Keyring has the Pod's imagePullSecrets. It is tried before the node's. A
	// credentials.PodKeyring, such as plugins that need a service account's token, is
	// asked for Pod. nil = the Pod has none.
	//
	// If the Runtime asks mirrors, as package transfer's does, the Keyring is also asked for
	// the names that the image has at the mirrors. A credential for a mirror is sent to that
	// mirror only.
	//
	// A Keyring that is not a credentials.Fingerprinter works, but its pulls share no
	// transfer with other pulls, and a repaired secret in it is not tried before the back-off
	// window ends.
	Keyring credentials.Keyring
	// Pod is the Pod that the image is for. Back-off windows are kept for each Pod.UID.
	// Secrets of another namespace are refused. They do not hide equal Secrets of the Pod's
	// own namespace. Zero = no Pod.
	Pod credentials.Pod
	// Platform is the platform that the image is for; zero = Config.Platform. A platform
	// without OS or architecture is refused, with an error that is an index.ErrPlatform.
	Platform ocispec.Platform
	// RuntimeHandler is the handler of the Pod's RuntimeClass, for Runtimes that keep the
	// images of each handler separately (KEP-4216); "" = the default handler. It must be a
	// DNS label, as in a RuntimeClass. Requests for different handlers share no pull, no
	// back-off window and no record. For the Pods of another handler, an image that was
	// pulled for one handler does not count as preloaded. The Runtime of package transfer
	// keeps one store for all handlers, and refuses every value except "".
	RuntimeHandler string
}

// A task is a request that was parsed and got its defaults. It does not change.
type task struct {
	call       uint64 // the number of the call, for its events
	image      string // as written in the request, without user:password@
	name       string // image, cut for texts
	ref        reference.Reference
	written    string // the name in the form of Spec.Written
	pod        credentials.Pod
	policy     pullpolicy.Policy
	policyWhy  string // where policy comes from, in one phrase
	platform   ocispec.Platform
	handler    string
	key        backoffKey
	candidates *candidates
}

// newTask parses the request. After its errors, neither a wait nor another credential
// helps. With an error, the task still has the fields that its event needs.
func newTask(req Request, config *Config, call uint64) (*task, *Error) {
	t := &task{call: call, image: req.Image, pod: req.Pod, platform: req.Platform, handler: strings.Clone(req.RuntimeHandler)}
	ref, how, err := config.Parser.ParseWritten(req.Image)
	var malformed *reference.ParseError
	if errors.As(err, &malformed) {
		t.image = malformed.Input // without a password
	}
	t.name = redact.Cut(t.image, maxName)
	if err != nil {
		return t, t.fail(ErrInvalidImageName, err)
	}
	// The request's name can be a small part of a large manifest, which must not stay
	// in memory for as long as a back-off lasts.
	t.ref, t.written = ref.Clone(), how.CRI
	if t.policy, t.policyWhy, err = choosePolicy(req.Image, ref.Tag(), req.Policy, config); err != nil {
		return t, t.fail("", err)
	}
	if isZeroPlatform(t.platform) {
		t.platform = config.Platform
	} else if err := checkPlatform(t.platform); err != nil {
		return t, t.fail("", err)
	}
	if err := checkHandler(t.handler); err != nil {
		return t, t.fail("", err)
	}
	t.key = newBackoffKey(t, config.Kubelet.NameAsWritten)
	t.candidates = newCandidates(req, config)
	return t, nil
}

// latest is the tag of names without tag and digest.
const latest = "latest"

// choosePolicy returns the policy that counts: Always under Config.AlwaysPull, or else
// the request's, or else the default. why is one phrase that says which.
func choosePolicy(image, tag string, requested pullpolicy.Policy, config *Config) (policy pullpolicy.Policy, why string, err error) {
	switch {
	case config.AlwaysPull:
		return pullpolicy.Always, "AlwaysPullImages", nil
	case requested == "" && !config.Kubelet.PolicyAsWritten:
		policy = pullpolicy.Default(image)
		switch {
		case policy == pullpolicy.Always && tag != latest: // Config.Parser has another default tag
			return policy, "default: no tag is written", nil
		case policy == pullpolicy.Always:
			return policy, "default: tag is latest", nil
		case tag == "":
			return policy, "default: no tag, but a digest", nil
		}
		return policy, "default: tag is not latest", nil
	case config.Kubelet.PolicyAsWritten && !requested.AsksStore() && requested != pullpolicy.Always:
		return pullpolicy.Always, "not one of the three policies: pulled without asking the store", nil
	}
	policy, err = pullpolicy.Parse(string(requested))
	return policy, "as requested", err
}

func isZeroPlatform(p ocispec.Platform) bool {
	return p.OS == "" && p.Architecture == "" && p.Variant == "" && p.OSVersion == "" && len(p.OSFeatures) == 0
}

// checkPlatform returns an error for a platform that no image can have. Without this
// check, a typo in the platform would look like an image that does not exist.
func checkPlatform(p ocispec.Platform) error {
	if _, err := (index.Selector{}).Select(ocispec.Index{}, p); errors.Is(err, index.ErrPlatform) {
		return err
	}
	return nil
}

// checkHandler returns an error if a runtime handler is not a DNS label. Kubernetes
// requires a DNS label in a RuntimeClass.
func checkHandler(handler string) error {
	const maxLabel = 63
	ok := len(handler) <= maxLabel && !strings.HasPrefix(handler, "-") && !strings.HasSuffix(handler, "-")
	for i := range len(handler) {
		c := handler[i]
		ok = ok && (c == '-' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z')
	}
	if !ok {
		return fmt.Errorf("Request.RuntimeHandler %s is not a DNS label, as the handler of a RuntimeClass is", quote(handler))
	}
	return nil
}

// platformKey returns the same text for two platforms if every index has the same
// manifest for both.
func platformKey(p ocispec.Platform) string {
	p = index.Normalize(p)
	return strings.Join(append([]string{p.OS, p.Architecture, p.Variant, p.OSVersion}, p.OSFeatures...), "\x00")
}

// spec returns the Spec for the Runtime, without a credential.
func (t *task) spec() Spec {
	return Spec{Ref: t.ref, Written: t.written, Platform: t.platform, RuntimeHandler: t.handler}
}

func (t *task) fail(reason Reason, err error) *Error {
	return &Error{Reason: reason, Image: t.image, Err: err}
}
