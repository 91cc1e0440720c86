package pullpolicy

import (
	"fmt"
	"strings"

	"github.com/pullkit/pullkit/reference"
)

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

// An Allowlist is the kubelet's preloadedImagesVerificationAllowlist. The zero
// Allowlist matches nothing. It may be used concurrently.
//
// A pattern is the name of an image without tag and digest, or a prefix of names
// that ends in "/*": "test.io/*" stands for all below that registry, at any depth,
// but not for test.io:443/x. Names are compared byte by byte as they are
// written in the Pod, less tag and digest. Nothing is filled in: "ubuntu" is not
// "docker.io/library/ubuntu". There are no other wildcards.
type Allowlist struct {
	names    map[string]struct{}
	prefixes map[string]struct{} // with the slash
}

// ParseAllowlist reads patterns. As in the kubelet, what stands before "/*" need
// not be a name, but no other star may be in it. The first pattern that is none
// is an error, which wraps [ErrPattern].
func ParseAllowlist(patterns []string) (Allowlist, error) {
	list := Allowlist{names: map[string]struct{}{}, prefixes: map[string]struct{}{}}
	for _, pattern := range patterns {
		prefix, ok := strings.CutSuffix(pattern, "*")
		if ok = ok && strings.HasSuffix(prefix, "/"); !ok {
			prefix = ""
		}
		if err := checkPattern(pattern, prefix); err != nil {
			return Allowlist{}, err
		}
		if ok {
			list.prefixes[strings.Clone(prefix)] = struct{}{}
		} else {
			list.names[strings.Clone(pattern)] = struct{}{}
		}
	}
	return list, nil
}

// checkPattern looks at a pattern; prefix is what is before its star, or "" if
// it does not end in "/*".
func checkPattern(pattern, prefix string) error {
	wrong := func(why string) error {
		// What may be user:password@ is not shown.
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
		return wrong(`a star stands only at the end, in "/*"`)
	case prefix == "/":
		return wrong("a registry must stand before the slash")
	case prefix != "":
		return nil
	}
	name, err := reference.Trim(pattern)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrPattern, err) // it quotes the pattern
	}
	if name != pattern {
		return fmt.Errorf("%.300q is %w: it has a tag or digest; write %.300q", pattern, ErrPattern, name)
	}
	return nil
}

// Match reports whether an image, as written in a Pod, is on the list. A name
// that does not parse is compared as it is.
func (l Allowlist) Match(image string) bool {
	name, err := reference.Trim(image)
	if err != nil {
		name = image
	}
	if _, ok := l.names[name]; ok {
		return true
	}
	// Prefixes end in a slash, so they can only match up to one.
	for i := range len(name) {
		if name[i] == '/' {
			if _, ok := l.prefixes[name[:i+1]]; ok {
				return true
			}
		}
	}
	return false
}
