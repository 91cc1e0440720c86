package credentials

import (
	"github.com/pullkit/pullkit/credentials/internal/keys"
)

// Rules say how keys are read, and in which order candidates come. The caller passes them to
// the function that reads a source: see [ReadFile], [FromSecrets] and [ProviderConfig]. The
// zero Rules are those of this package, which [Match] describes.
type Rules struct {
	// Kubelet means the rules of the kubelet (of Kubernetes 1.36 to 1.38 beta), with their
	// shortcomings. They differ from the rules of this package as follows:
	//   - the path of a key matches by byte prefix, so that the password of
	//     registry.io/team is also sent to registry.io/team-b;
	//   - only * is a wildcard in the host; a key with another wildcard is left out
	//     or cut off, as net/url cuts it;
	//   - hosts are compared with case, and a bracketed IPv6 address matches only with a
	//     port;
	//   - the key index.docker.io counts only if no other key matches;
	//   - an entry without a credential is a candidate;
	//   - identity tokens, registry tokens and the names of helpers are not read;
	//   - a credential that one source has twice is tried twice;
	//   - a document that begins with a byte order mark is malformed;
	//   - all plugins are asked before the first candidate of any of them is
	//     tried, and the keys of all answers are ordered together.
	// There is one exception: the kubelet refuses a whole document because of one malformed
	// entry. Here only the entry is left out, and Problems lists it.
	Kubelet bool
}

// Match reports whether a key matches the name of an image. The key is one of a config.json
// file, but without a scheme, or one of a matchImages list. The name is registry and
// repository, as [reference.Reference.Name] returns them. These are the rules:
//
//   - In the host *, ?, [a-z], [^x] and \c have the meaning of [path.Match], but match
//     only within one part between dots. So both hosts must have the same number of
//     parts. Case does not matter in hosts.
//   - Both must have the same port, or both must have none. A port has no wildcards.
//   - An IPv6 address in brackets is compared as text.
//   - A path matches the same path and all paths below it: registry.io/team matches
//     registry.io/team/app, and not registry.io/team-b. A path with a slash at its end
//     matches only the paths below it. A path has no wildcards.
//   - docker.io, index.docker.io and registry-1.docker.io are the same host, unless the
//     host of the key has a wildcard.
//
// The rules are those of the kubelet, without the shortcomings that [Rules] lists. The
// error is an [*Error] whose Origin has only a Key, which is the key or the name that is
// malformed; Match returns false then.
func Match(key, name string, rules Rules) (bool, error) {
	p, err := rules.compile(key)
	if err != nil {
		return false, &Error{Origin: Origin{Key: keys.Redact(key)}, Err: err}
	}
	t, err := rules.target(name)
	if err != nil {
		return false, &Error{Origin: Origin{Key: keys.Redact(name)}, Err: err}
	}
	return p.Match(t) == keys.Matched, nil
}

// compile reads a key without a scheme.
func (r Rules) compile(key string) (keys.Pattern, error) {
	if r.Kubelet {
		return keys.CompileKubelet(key)
	}
	return keys.Compile(key)
}

// target reads the name of an image.
func (r Rules) target(name string) (keys.Name, error) {
	if r.Kubelet {
		return keys.ParseNameKubelet(name)
	}
	return keys.ParseName(name)
}

// normalize returns the text by which the entry of a key is ordered.
func (r Rules) normalize(key string) (string, error) {
	if r.Kubelet {
		return keys.NormalizeKubelet(key)
	}
	return keys.Normalize(key), nil
}
