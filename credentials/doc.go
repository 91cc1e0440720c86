// Package credentials finds the credentials with which an image may be pulled, and tries
// them in the kubelet's order.
//
// The one call most users need for a login of their own is [Login]. It returns a keyring
// for one registry, or for a part of one:
//
//	ring, err := credentials.Login("registry.example/team", user, credentials.Conceal(password))
//
// The node's files, pull secrets and plugins are further keyrings. [Each] tries all of
// their credentials for an image until one works. Other libraries stop at the first
// credential, which is wrong for a Pod with several pull secrets.
//
//	rules := credentials.Rules{}
//	secrets := credentials.FromSecrets(pullSecrets, rules)
//	node, err := credentials.FindFile(credentials.KubeletPaths(""), rules)
//	bin := credentials.Exec{Dir: binDir}
//	plugins, err := credentials.ReadProviders("providers.yaml", credentials.ProviderConfig{Exec: bin})
//	ring := credentials.Join(secrets, node, plugins)
//	digest, err := credentials.Each(ctx, ring, ref, pullWith)
//
// A command for a developer's own machine reads the files that docker reads, and asks
// the credential helpers that docker's file names:
//
//	file, err := credentials.ReadDocker()
//	ring := file.WithHelpers(credentials.Exec{})
//
// # Order
//
// The candidates of one source come in reverse byte order of their keys: registry.io/team
// comes before registry.io, and registry.io before *.io. Candidates with equal keys come
// in the order of the file or of the Secrets. A credential that was tried is not tried
// again, unless a [Static] lists it twice or the kubelet's rules are set, under which each
// entry is tried.
//
// # Problems
//
// No entry of a source is left out in silence. A malformed entry or Secret is left out, and
// [Problems] reports it; all others are still read. [Problems] also reports an entry or a
// Secret that can be read but gives no credential, or looks mistyped: a Secret of another
// type, a key that matches no image, a line feed at the end of a password, a helper that
// was not asked. Such a report is a warning: see [Error.Warning]. The Explain method of a
// keyring reports the same for one image; see [Explainer].
//
// # The kubelet's rules
//
// This package deviates from the kubelet in some rules. For example, the kubelet matches
// paths by byte prefix, so that it also sends the password of registry.io/team to
// registry.io/team-b. [Rules] lists these rules, and can switch to the kubelet's own.
//
// # Secrets
//
// A value that holds a secret is never printed: see [Sensitive]. An error of this package
// never quotes a secret, or the content of a file, a Secret or an answer. It quotes only
// names of keys and fields, and single invisible characters.
//
// # Limits
//
// A file, Secret or manifest of more than 8 MiB is refused. A program is killed after a
// minute, or after 1 MiB of output, unless [Exec] sets other limits. Up to 10,000 answers
// of each plugin are kept in memory. Nothing is kept when the process ends.
//
// # Left out
//
// The package does not talk to Kubernetes: the caller passes Secrets, Pods and
// service-account tokens to it. The package does not store logins. It does not know how
// to get a token from any cloud, because plugins do that.
package credentials
