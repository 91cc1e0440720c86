package pullpolicy

import (
	"fmt"
	"strings"

	"github.com/pullkit/pullkit/reference"
)

// A VerificationPolicy is the kubelet's imagePullCredentialsVerificationPolicy.
type VerificationPolicy string

// The four policies. Each says which images on the node every Pod may use.
const (
	NeverVerify                  VerificationPolicy = "NeverVerify"                  // all of them
	NeverVerifyPreloadedImages   VerificationPolicy = "NeverVerifyPreloadedImages"   // preloaded images, which the kubelet has not pulled; the default
	NeverVerifyAllowlistedImages VerificationPolicy = "NeverVerifyAllowlistedImages" // those on the allowlist
	AlwaysVerify                 VerificationPolicy = "AlwaysVerify"                 // none
)

// A Verification says for which images on the node a Pod must show that it may use them. It
// matters under IfNotPresent and Never. The zero Verification is
// NeverVerifyPreloadedImages, the kubelet's default. It may be used concurrently.
type Verification struct {
	policy VerificationPolicy // "" for NeverVerifyPreloadedImages
	list   allowlist
}

// NewVerification returns the Verification for a policy. patterns are the kubelet's
// preloadedImagesVerificationAllowlist, which only NeverVerifyAllowlistedImages may have.
//
// A pattern is the name of an image without tag and digest, or a prefix of names that
// ends in "/*": "test.io/*" matches every name below that registry, at any depth, but
// not test.io:443/x. Names are compared byte by byte as they are written in the Pod,
// without tag and digest. Nothing is filled in: "ubuntu" does not match
// "docker.io/library/ubuntu". There are no other wildcards. As in the kubelet, the text
// before "/*" need not be a name, but it must not have another star.
//
// The error wraps [ErrRequired] if the policy is empty, [ErrNotSupported] if it is unknown,
// [ErrForbidden] if another policy has patterns, and [ErrPattern] if a pattern is
// malformed.
func NewVerification(policy VerificationPolicy, patterns ...string) (Verification, error) {
	const what = "image pull credentials verification policy"
	switch policy {
	case NeverVerify, NeverVerifyPreloadedImages, NeverVerifyAllowlistedImages, AlwaysVerify:
	case "":
		return Verification{}, fmt.Errorf("%s is %w; write NeverVerifyPreloadedImages for the default", what, ErrRequired)
	default:
		return Verification{}, fmt.Errorf("%s %.80q is %w; write %s, %s, %s or %s", what, string(policy), ErrNotSupported,
			NeverVerify, NeverVerifyPreloadedImages, NeverVerifyAllowlistedImages, AlwaysVerify)
	}
	if len(patterns) > 0 && policy != NeverVerifyAllowlistedImages {
		return Verification{}, fmt.Errorf("an allowlist with %s is %w; only %s may have one", policy, ErrForbidden, NeverVerifyAllowlistedImages)
	}
	list, err := parseAllowlist(patterns)
	if err != nil {
		return Verification{}, fmt.Errorf("allowlist: %w", err)
	}
	if policy == NeverVerifyPreloadedImages {
		return Verification{}, nil
	}
	return Verification{policy, list}, nil
}

// Policy returns the policy that v was made from.
func (v Verification) Policy() VerificationPolicy {
	if v.policy == "" {
		return NeverVerifyPreloadedImages
	}
	return v.policy
}

// IsZero reports whether v is the default, NeverVerifyPreloadedImages.
func (v Verification) IsZero() bool { return v.policy == "" }

// Required reports whether a Pod must show that it may use an image on the node. image is
// the name as written in the Pod. pulled says that the kubelet has a record that it pulled
// the image, or that it started to. An image on the allowlist needs no proof even if the
// kubelet has pulled it with a secret: the kubelet's documentation speaks only of preloaded
// images, but its code does not check that an image is preloaded (k8s.io/kubernetes,
// pkg/kubelet/images/pullmanager).
func (v Verification) Required(image string, pulled bool) bool {
	switch v.policy {
	case NeverVerify:
		return false
	case AlwaysVerify:
		return true
	case NeverVerifyAllowlistedImages:
		return !v.list.match(image)
	}
	return pulled
}

// An allowlist is the kubelet's preloadedImagesVerificationAllowlist, as NewVerification
// describes it. The zero allowlist matches nothing.
type allowlist struct {
	names    map[string]struct{}
	prefixes map[string]struct{} // with the slash
}

func parseAllowlist(patterns []string) (allowlist, error) {
	list := allowlist{names: map[string]struct{}{}, prefixes: map[string]struct{}{}}
	for _, pattern := range patterns {
		prefix, ok := strings.CutSuffix(pattern, "*")
		if ok = ok && strings.HasSuffix(prefix, "/"); !ok {
			prefix = ""
		}
		if err := checkPattern(pattern, prefix); err != nil {
			return allowlist{}, err
		}
		if ok {
			list.prefixes[strings.Clone(prefix)] = struct{}{}
		} else {
			list.names[strings.Clone(pattern)] = struct{}{}
		}
	}
	return list, nil
}

// checkPattern returns why a pattern is refused. prefix is the text before the pattern's
// star, or "" if the pattern does not end in "/*".
func checkPattern(pattern, prefix string) error {
	wrong := func(why string) error {
		// The text before an @ is not shown, because it may be user:password.
		return fmt.Errorf("%.300q is %w: %s", pattern[strings.LastIndexByte(pattern, '@')+1:], ErrPattern, why)
	}
	text := pattern
	if prefix != "" {
		text = prefix
	}
	switch {
	case pattern != strings.TrimSpace(pattern):
		return wrong("white space around it; remove it")
	case pattern == "":
		return wrong("it is empty")
	case strings.Contains(text, "*"):
		return wrong(`a star may only be at the end, in "/*"`)
	case prefix == "/":
		return wrong("write a registry before the slash")
	case prefix != "":
		return nil
	}
	name, err := reference.Trim(pattern)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrPattern, err) // err quotes the pattern
	}
	if name != pattern {
		return fmt.Errorf("%.300q is %w: it has a tag or digest; write %.300q", pattern, ErrPattern, name)
	}
	return nil
}

// match reports whether an image, as written in a Pod, is on the list. A name that cannot
// be parsed is compared as written.
func (l allowlist) match(image string) bool {
	name, err := reference.Trim(image)
	if err != nil {
		name = image
	}
	if _, ok := l.names[name]; ok {
		return true
	}
	// Each prefix ends in a slash, so only the text up to a slash is looked up.
	for i := range len(name) {
		if name[i] == '/' {
			if _, ok := l.prefixes[name[:i+1]]; ok {
				return true
			}
		}
	}
	return false
}
