// Package credentials finds the credentials that may open an image, in the order
// in which the kubelet tries them, and tries them.
//
// The one call most users need for a login of their own is [Login]. It is for one
// registry, or for a part of it:
//
//	ring, err := credentials.Login("registry.example/team", user, credentials.Conceal(password))
//
// The node's files, pull secrets and plugins are further keyrings. [Each] tries what
// they have: other libraries stop at the first credential, which is wrong where a
// Pod has several pull secrets.
//
//	rules := credentials.Rules{}
//	secrets := credentials.FromSecrets(pullSecrets, rules)
//	node, err := credentials.FindFile(credentials.KubeletPaths(""), rules)
//	plugins, err := credentials.ReadProviders("providers.yaml", credentials.ProviderConfig{BinDir: binDir})
//	ring := credentials.Join(secrets, node, plugins)
//	digest, err := credentials.Each(ctx, ring, ref, pullWith)
//
// A command for a developer's own machine reads what docker reads, and asks the
// credential helpers that docker's file names:
//
//	file, err := credentials.ReadDocker()
//	ring := file.WithHelpers(credentials.HelperConfig{})
//
// # Order
//
// Within a source candidates come in reverse byte order of their keys, so
// registry.io/team before registry.io, and that before *.io; equal keys in the
// order of the file. A credential that was tried is not tried again.
//
// Nothing that was brought is passed over in silence. An entry or a Secret that is
// malformed costs itself only, and is reported by [Problems]. What can be read and
// gives nothing, or looks mistyped, is reported there too, with a [Reason] that is a warning: a Secret
// of another type, a key that matches no image, a line feed at the end of a password,
// a helper that was not asked. Explain says the same for one image.
//
// [Rules] has the kubelet's own answers where these differ: it matches paths by
// byte prefix, for one, so that the password of registry.io/team goes to
// registry.io/team-b too.
//
// # Secrets
//
// Nothing that holds a secret has a printed form: see [Sensitive]. No error of
// this package quotes one, nor the content of a file, a Secret or an answer: at most
// the names of keys and fields, and a single character that cannot be seen.
//
// # Limits
//
// Files, Secrets and manifests of more than 8 MiB are refused, programs are
// killed after a minute or 1 MiB of output, and 10,000 answers are kept of a
// plugin. Nothing is kept between processes.
//
// # Left out
//
// The package does not talk to Kubernetes: Secrets, Pods and service-account
// tokens are handed to it. It stores no logins, and knows no cloud's own way to
// get a token: that is what plugins are for.
package credentials
