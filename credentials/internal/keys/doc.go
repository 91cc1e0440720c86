// Package keys reads the keys of credentials, such as those of auths in a config.json and
// of matchImages, and the names of images, and matches them.
//
// A key is read in two steps. [Normalize] cuts off what a key of a config.json may have
// and a pattern does not have: a scheme, or the path of an API. [Compile] makes a
// [Pattern] of the rest, and [Pattern.Match] compares it with the [Name] of an image:
//
//	p, err := keys.Compile(keys.Normalize("https://Registry.io/v1/"))
//	n, err := keys.ParseName("registry.io/team/app")
//	matches := p.Match(n) == keys.Matched
//
// The functions whose names end in Kubelet have the rules of the kubelet.
//
// A key that a user wrote may hold a password. [Redact] returns it without the parts that
// may be a secret, and each key must go through it before an error or a log shows it. Other
// names that a user wrote, such as those of fields, have functions of the same kind.
package keys
