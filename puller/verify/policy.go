package verify

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/pullkit/pullkit/internal/redact"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/pullpolicy"
	"github.com/pullkit/pullkit/reference"
)

// A Rule says which check decides about the images whose names match a pattern.
type Rule struct {
	// Pattern is the full name of an image without tag and digest, or a prefix of names that
	// ends in "/*", as in the kubelet's preloadedImagesVerificationAllowlist:
	// "registry.example/team/*" matches every name below that path, at any depth. Other
	// wildcards are not allowed.
	//
	// The kubelet compares names as they are written. Here names are compared as
	// reference.Parse returns them, so that all spellings of a name have the same rule. Upper
	// and lower case of the registry, and its port 443, make no difference. So a pattern must
	// also be a full name: "docker.io/library/nginx" and not "nginx".
	Pattern string
	Check   content.Check
}

type policy struct {
	rules    []rule
	fallback content.Check
}

type rule struct {
	Rule
	list pullpolicy.Verification
}

func (r rule) matches(name string) bool { return !r.list.Required(name, true) }

// Policy returns a check that asks the check of the first rule whose pattern matches the
// name of an image. If no pattern matches, it asks fallback. A nil fallback is [Reject].
// Policy returns an error if a rule has no check, if a pattern is malformed, or if an
// earlier rule matches all names of a pattern. The error names the rule.
func Policy(fallback content.Check, rules ...Rule) (content.Check, error) {
	p := &policy{fallback: fallback}
	if fallback == nil {
		p.fallback = Reject()
	}
	for i, r := range rules {
		wrong := func(err error) error { return fmt.Errorf("verify: rule %d: %w", i+1, err) }
		if r.Check == nil {
			return nil, wrong(errors.New("it has no Check; set Check, for example to Accept() or Reject()"))
		}
		pattern, sample, err := checkPattern(r.Pattern)
		if err != nil {
			return nil, wrong(err)
		}
		for j, earlier := range p.rules {
			if earlier.matches(sample) {
				return nil, wrong(fmt.Errorf("pattern %s: the earlier rule %d decides about all of its names", redact.Quote(r.Pattern, maxReason), j+1))
			}
		}
		list, err := pullpolicy.NewVerification(pullpolicy.NeverVerifyAllowlistedImages, pattern)
		if err != nil {
			return nil, wrong(err)
		}
		p.rules = append(p.rules, rule{r, list})
	}
	return p, nil
}

// sampleName is appended to a prefix, to get a name that the prefix matches. It has a
// slash, because reference.Parse moves a name of one word below docker.io to
// docker.io/library.
const sampleName = "a/a"

// checkPattern returns the pattern in the form in which names are compared, and one name
// that the pattern matches.
func checkPattern(written string) (pattern, sample string, err error) {
	if _, err := pullpolicy.NewVerification(pullpolicy.NeverVerifyAllowlistedImages, written); err != nil {
		return "", "", err
	}
	name, star := written, ""
	prefix, isPrefix := strings.CutSuffix(written, "*")
	if isPrefix {
		name, star = prefix+sampleName, "*"
	}
	ref, err := reference.Parse(name)
	if err != nil {
		return "", "", fmt.Errorf("pattern %s is not an image name or the start of an image name", redact.Quote(written, maxReason))
	}
	cut := func(name string) string {
		if !isPrefix {
			return name
		}
		return strings.TrimSuffix(name, sampleName) + star
	}
	if ref.Name() != name {
		return "", "", fmt.Errorf("pattern %s is not a full name; write %s", redact.Quote(written, maxReason), redact.Quote(cut(ref.Name()), maxReason))
	}
	sample = matchedName(ref)
	return cut(sample), sample, nil
}

// matchedName returns the name of an image as it is compared: with the registry in lower
// case and without the port of https. Such spellings of a registry lead to the same
// server.
func matchedName(ref reference.Reference) string {
	registry := strings.TrimSuffix(strings.ToLower(ref.Registry()), ":443")
	return registry + "/" + ref.Repository()
}

// checkFor returns the check that decides about an image, and a text that names its rule.
func (p *policy) checkFor(ref reference.Reference) (content.Check, string) {
	name := matchedName(ref)
	for i, r := range p.rules {
		if r.matches(name) {
			return r.Check, fmt.Sprintf("rule %d, %s", i+1, redact.Text(redact.Cut(r.Pattern, maxReason)))
		}
	}
	return p.fallback, "the default, because no rule matches"
}

// Admit implements content.Check.
func (p *policy) Admit(ctx context.Context, image content.Admission) (by string, err error) {
	if image.Ref.IsZero() {
		return "", undecided("the image has no name")
	}
	check, which := p.checkFor(image.Ref)
	by, err = check.Admit(ctx, image)
	if err != nil {
		return "", fmt.Errorf("%s: %w", which, err)
	}
	return which + ": " + by, nil
}

// Fingerprint implements content.Check. It is "" if the fingerprint of one of the checks
// is "".
func (p *policy) Fingerprint() string {
	h := sha256.New()
	for _, r := range append(p.rules[:len(p.rules):len(p.rules)], rule{Rule: Rule{Check: p.fallback}}) {
		print := r.Check.Fingerprint()
		if print == "" {
			return ""
		}
		fmt.Fprintf(h, "rule %q %q\n", r.Pattern, print)
	}
	return hex.EncodeToString(h.Sum(nil))[:32]
}

// Explain implements content.CheckExplainer.
func (p *policy) Explain(ref reference.Reference) string {
	check, which := p.checkFor(ref)
	text := fmt.Sprintf("a check of type %T", check)
	if explainer, ok := check.(content.CheckExplainer); ok {
		text = explainer.Explain(ref)
	}
	return which + ": " + text
}

// fixed is a check that always gives one answer.
type fixed bool

// Accept returns a check that admits every image and looks at nothing.
func Accept() content.Check { return fixed(true) }

// Reject returns a check that refuses every image.
func Reject() content.Check { return fixed(false) }

func (f fixed) Admit(context.Context, content.Admission) (string, error) {
	if !f {
		return "", errors.New("rejected by the policy")
	}
	return f.Explain(reference.Reference{}), nil
}

func (f fixed) Fingerprint() string { return f.Explain(reference.Reference{}) }

func (f fixed) Explain(reference.Reference) string {
	if f {
		return "accepted without a check"
	}
	return "rejected"
}

// A function is a check in Go.
type function struct {
	name, version string
	admit         func(context.Context, content.Admission) (string, error)
}

// Func returns a check that calls admit; see content.Check.Admit for its results.
// Operators read name in answers and errors. version identifies what admit decides by,
// such as a hash of its keys. If version changes, admit is asked again about images that
// were admitted. With an empty version no answer is remembered. A nil admit refuses every
// image.
func Func(name, version string, admit func(ctx context.Context, image content.Admission) (by string, err error)) content.Check {
	if admit == nil {
		admit = Reject().Admit
	}
	return &function{name, version, admit}
}

// Admit implements content.Check.
func (f *function) Admit(ctx context.Context, image content.Admission) (string, error) {
	by, err := f.admit(ctx, image)
	if err != nil {
		return "", fmt.Errorf("%s: %w", redact.Text(f.name), err)
	}
	return strings.TrimSuffix(redact.Text(f.name)+" => "+by, " => "), nil
}

// Fingerprint implements content.Check.
func (f *function) Fingerprint() string {
	if f.version == "" {
		return ""
	}
	h := sha256.New()
	fmt.Fprintf(h, "function %q %q", f.name, f.version)
	return hex.EncodeToString(h.Sum(nil))[:32]
}

// Explain implements content.CheckExplainer.
func (f *function) Explain(reference.Reference) string { return redact.Text(f.name) }
