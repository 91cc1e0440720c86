package pullpolicy

import "fmt"

// The kubelet's imagePullCredentialsVerificationPolicy.
const (
	NeverVerify                  = "NeverVerify"                  // who is on the node may use what is on the node
	NeverVerifyPreloadedImages   = "NeverVerifyPreloadedImages"   // but not what the kubelet has pulled; the default
	NeverVerifyAllowlistedImages = "NeverVerifyAllowlistedImages" // only what the allowlist names is free for all
	AlwaysVerify                 = "AlwaysVerify"                 // nothing is
)

// A Verification says for which images that are on the node a Pod must show
// that it may use them. It is asked under IfNotPresent and Never. The zero
// Verification is NeverVerifyPreloadedImages, the kubelet's default. It may be
// used concurrently.
type Verification struct {
	policy string // "" for NeverVerifyPreloadedImages
	list   Allowlist
}

// NewVerification reads the kubelet's imagePullCredentialsVerificationPolicy and
// preloadedImagesVerificationAllowlist. The error wraps [ErrRequired] or
// [ErrNotSupported] for a policy that is empty or unknown, [ErrForbidden] for
// patterns beside a policy other than NeverVerifyAllowlistedImages, and
// [ErrPattern] for a pattern that is none.
func NewVerification(policy string, patterns ...string) (Verification, error) {
	const what = "image pull credentials verification policy"
	switch policy {
	case NeverVerify, NeverVerifyPreloadedImages, NeverVerifyAllowlistedImages, AlwaysVerify:
	case "":
		return Verification{}, fmt.Errorf("%s is %w; write NeverVerifyPreloadedImages for the default", what, ErrRequired)
	default:
		return Verification{}, fmt.Errorf("%s %.80q is %w; write %s, %s, %s or %s", what, policy, ErrNotSupported,
			NeverVerify, NeverVerifyPreloadedImages, NeverVerifyAllowlistedImages, AlwaysVerify)
	}
	if len(patterns) > 0 && policy != NeverVerifyAllowlistedImages {
		return Verification{}, fmt.Errorf("an allowlist beside %s is %w; it goes with %s", policy, ErrForbidden, NeverVerifyAllowlistedImages)
	}
	list, err := ParseAllowlist(patterns)
	if err != nil {
		return Verification{}, fmt.Errorf("allowlist: %w", err)
	}
	if policy == NeverVerifyPreloadedImages {
		return Verification{}, nil
	}
	return Verification{policy, list}, nil
}

// Policy returns the word that v was made from.
func (v Verification) Policy() string {
	if v.policy == "" {
		return NeverVerifyPreloadedImages
	}
	return v.policy
}

// IsZero reports whether v is the default, NeverVerifyPreloadedImages.
func (v Verification) IsZero() bool { return v.policy == "" }

// Required reports whether a Pod must show that it may use an image, named as
// written, that is on the node. pulled says that the kubelet has pulled it, or
// has begun to: that there is a record of it. An image that is on the allowlist
// is free also if the kubelet has pulled it, with a secret at that; the
// kubelet's documentation speaks of preloaded images only, its code does not
// ask (k8s.io/kubernetes, pkg/kubelet/images/pullmanager).
func (v Verification) Required(image string, pulled bool) bool {
	switch v.policy {
	case NeverVerify:
		return false
	case AlwaysVerify:
		return true
	case NeverVerifyAllowlistedImages:
		return !v.list.Match(image)
	}
	return pulled
}
