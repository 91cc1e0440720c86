package credentials

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// validate checks what the kubelet checks of a provider config, and refuses
// names that are no plain file names on any system.
func (r Rules) validate(providers []Provider) error {
	if len(providers) == 0 {
		return errors.New("names no provider")
	}
	seen := map[string]bool{}
	for _, p := range providers {
		if seen[p.Name] {
			return fmt.Errorf("provider %s: is there twice", quote(p.Name))
		}
		seen[p.Name] = true
		if err := r.validateProvider(p); err != nil {
			return fmt.Errorf("provider %s: %w", quote(p.Name), err)
		}
	}
	return nil
}

func (r Rules) validateProvider(p Provider) error {
	if err := r.checkProgramName(p.Name); err != nil {
		return err
	}
	if version, ok := strings.CutPrefix(p.APIVersion, providerGroup); !ok || !isVersion(version) {
		return fmt.Errorf("apiVersion is %s, not %sv1, v1beta1 or v1alpha1", quote(p.APIVersion), providerGroup)
	}
	if len(p.MatchImages) == 0 {
		return errors.New("matchImages is empty")
	}
	for _, key := range p.MatchImages {
		if _, err := r.compile(key); err != nil {
			return fmt.Errorf("matchImages: %w", &KeyError{Key: redactKey(key), Err: err})
		}
		if strings.Contains(key, "://") && !r.Kubelet {
			return fmt.Errorf("matchImages: %w", &KeyError{Key: redactKey(key), Err: errors.New("has a scheme")})
		}
	}
	if p.DefaultCacheDuration < 0 {
		return errors.New("defaultCacheDuration is negative")
	}
	for _, v := range p.Env {
		if v.Name == "" && !r.Kubelet || strings.ContainsAny(v.Name, "=\x00") || strings.Contains(v.Value.Reveal(), "\x00") {
			return errors.New("env: a variable that no process can have")
		}
	}
	if p.Token == nil {
		return nil
	}
	if p.APIVersion != providerGroup+"v1" {
		return errors.New("tokenAttributes need apiVersion " + providerGroup + "v1")
	}
	if err := p.Token.validate(); err != nil {
		return fmt.Errorf("tokenAttributes: %w", err)
	}
	return nil
}

func (r Rules) checkProgramName(name string) error {
	switch {
	case strings.Contains(name, "/"):
		return errors.New("name holds a slash")
	case strings.Contains(name, " "):
		return errors.New("name holds a space")
	case name == "." || name == "..":
		return errors.New("name is a directory's")
	case r.Kubelet:
		return nil
	case name == "":
		return errors.New("name is empty")
	case strings.ContainsAny(name, `\:`) || strings.ContainsFunc(name, isControl):
		return errors.New("name holds a character that file names do not have everywhere")
	}
	return nil
}

func (t TokenAttributes) validate() error {
	switch {
	case t.Audience == "":
		return errors.New("serviceAccountTokenAudience is missing")
	case t.CacheType != CacheByToken && t.CacheType != CacheByServiceAccount:
		return fmt.Errorf("cacheType is %s, not Token or ServiceAccount", quote(string(t.CacheType)))
	case !t.RequireServiceAccount && len(t.RequiredAnnotations) > 0:
		return errors.New("requiredServiceAccountAnnotationKeys need requireServiceAccount")
	}
	keys := slices.Concat(t.RequiredAnnotations, t.OptionalAnnotations)
	for i, key := range keys {
		if !isQualifiedName(key) {
			return fmt.Errorf("%s is no annotation key", quote(key))
		}
		if slices.Contains(keys[:i], key) {
			return fmt.Errorf("annotation key %s is there twice", quote(key))
		}
	}
	return nil
}

// isQualifiedName reports whether s is an annotation key: a name of at most 63
// letters, digits and -_. between them, behind a DNS name and a slash or alone.
// Case does not matter.
func isQualifiedName(s string) bool {
	prefix, name, ok := strings.Cut(strings.ToLower(s), "/")
	if !ok {
		name = prefix
	} else if len(prefix) > 253 || strings.Contains(name, "/") || !isDNSName(prefix) {
		return false
	}
	return len(name) <= 63 && isWord(name, "-_.")
}

func isDNSName(s string) bool {
	for label := range strings.SplitSeq(s, ".") {
		if !isWord(label, "-") {
			return false
		}
	}
	return true
}

// isWord reports whether s begins and ends with a letter or digit and has
// nothing else but those and the inner characters.
func isWord(s, inner string) bool {
	if s == "" || !isAlnum(s[0]) || !isAlnum(s[len(s)-1]) {
		return false
	}
	for i := range len(s) {
		if !isAlnum(s[i]) && strings.IndexByte(inner, s[i]) < 0 {
			return false
		}
	}
	return true
}
