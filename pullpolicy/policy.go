package pullpolicy

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/pullkit/pullkit/reference"
)

// A Policy is a container's imagePullPolicy, or an image volume's pullPolicy.
// "" means that it is not set.
type Policy string

// The three policies, spelled as in a Pod.
const (
	Always       Policy = "Always"       // ask the registry each time; fetch only what is missing
	IfNotPresent Policy = "IfNotPresent" // use what is present, else pull
	Never        Policy = "Never"        // use what is present, else refuse
)

// A Reason says why text is refused. Test for one with errors.Is.
type Reason string

// The reasons for which text is refused. The first three have the names of the API server's
// validation. ErrPattern is for the allowlist, and ErrPod for [Images].
const (
	ErrRequired     Reason = "required"      // empty, and a value is needed
	ErrNotSupported Reason = "not supported" // not one of the possible values
	ErrForbidden    Reason = "forbidden"     // by admission, or by another setting
	ErrPattern      Reason = "not a pattern of an allowlist"
	ErrPod          Reason = "not a Pod"
)

// Error returns the reason's text.
func (r Reason) Error() string { return string(r) }

// Parse reads a policy by the rules of the API server's validation: one of the three words,
// in the right case and without white space. The error wraps [ErrRequired] for "" and
// [ErrNotSupported] for any other text.
func Parse(s string) (Policy, error) {
	switch p := Policy(s); p {
	case Always, IfNotPresent, Never:
		return p, nil
	case "":
		return "", fmt.Errorf("pull policy is %w; write Always, IfNotPresent or Never", ErrRequired)
	}
	for _, p := range []Policy{Always, IfNotPresent, Never} {
		if strings.EqualFold(strings.TrimSpace(s), string(p)) {
			return "", fmt.Errorf("pull policy %.80q is %w; write %s", s, ErrNotSupported, p)
		}
	}
	return "", fmt.Errorf("pull policy %.80q is %w; write Always, IfNotPresent or Never", s, ErrNotSupported)
}

// Default returns the policy that the API server fills in for an image, of a container of
// any kind or of an image volume: Always if the tag is latest, whether written or filled
// in, and IfNotPresent otherwise. A name that cannot be parsed gets IfNotPresent. For a
// name with the tag latest and a digest, the Kubernetes documentation says IfNotPresent;
// Default returns Always, as the API server's code does (k8s.io/kubernetes,
// pkg/apis/core/v1, SetDefaults_Container).
//
// The policy is filled in once, when the Pod is created. A later change of the tag does
// not change the policy.
func Default(image string) Policy {
	if tag, _ := version(image); tag == "latest" {
		return Always
	}
	return IfNotPresent
}

// DefaultByDigest is [Default] with the documentation's rule for digests: a name with a
// digest gets IfNotPresent, with any tag, because the name always means the same bytes. No
// released API server does so.
func DefaultByDigest(image string) Policy {
	if _, pinned := version(image); pinned {
		return IfNotPresent
	}
	return Default(image)
}

// version returns an image's tag, written or filled in, and whether the image has a digest.
// It returns "" and false for a name that the API server cannot parse.
func version(image string) (tag string, pinned bool) {
	ref, err := reference.Parse(image)
	if err == nil {
		return ref.Tag(), ref.Digest() != ""
	}
	if !errors.Is(err, reference.ErrUnderscore) {
		return "", false
	}
	// The API server accepts foo_bar.com/x as a name without a registry.
	name, err := reference.Trim(image)
	if err != nil {
		return "", false
	}
	tag, digest, _ := strings.Cut(image[len(name):], "@")
	if tag == "" && digest == "" {
		return "latest", false
	}
	return strings.TrimPrefix(tag, ":"), digest != ""
}

// OrDefault returns p, or the image's [Default] if p is not set. A policy that is set is
// returned unchanged, even an unknown one.
func (p Policy) OrDefault(image string) Policy {
	if p == "" {
		return Default(image)
	}
	return p
}

// AsksStore reports whether the local store is asked for the image. Under Always the store
// is not asked, because the registry is asked in any case.
func (p Policy) AsksStore() bool { return p == IfNotPresent || p == Never }

// A Presence says whether an image is in the local store.
type Presence int

// The values of Presence. The zero Presence is Unknown.
const (
	Unknown    Presence = iota // the store could not be asked
	Absent                     // it is not in the store
	Present                    // it is in the store, and this Pod may use it
	NeedsProof                 // it is in the store, but this Pod has to show the registry a credential first
)

// String returns the constant's name.
func (p Presence) String() string {
	switch p {
	case Unknown:
		return "Unknown"
	case Absent:
		return "Absent"
	case Present:
		return "Present"
	case NeedsProof:
		return "NeedsProof"
	}
	return "Presence(" + strconv.Itoa(int(p)) + ")"
}

// An Outcome says what to do with an image.
type Outcome int

// The values of Outcome. The zero Outcome is Fail.
const (
	Fail   Outcome = iota // return an error: ImageInspectError, or the policy is unknown
	Use                   // use the image in the store
	Pull                  // pull from the registry
	Refuse                // return the error ErrImageNeverPull
)

// String returns the constant's name.
func (a Outcome) String() string {
	switch a {
	case Fail:
		return "Fail"
	case Use:
		return "Use"
	case Pull:
		return "Pull"
	case Refuse:
		return "Refuse"
	}
	return "Outcome(" + strconv.Itoa(int(a)) + ")"
}

// Decide returns what to do with an image; the package comment has the table. A policy that
// is not set gives Fail, so call [Policy.OrDefault] first. The rules are those of
// k8s.io/kubernetes, pkg/kubelet/images, EnsureImageExists.
func (p Policy) Decide(known Presence) Outcome {
	switch p {
	case Always:
		return Pull
	case IfNotPresent:
		return decideLocal(known, Pull)
	case Never:
		return decideLocal(known, Refuse)
	}
	return Fail
}

// decideLocal returns Use if the image is present, and otherwise if it is absent or needs
// proof.
func decideLocal(known Presence, otherwise Outcome) Outcome {
	switch known {
	case Present:
		return Use
	case Absent, NeedsProof:
		return otherwise
	}
	return Fail
}
